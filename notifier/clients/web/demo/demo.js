/* The demo page: several users side by side, a form that sends, and an address that keeps who is there. */

import { Latency } from "./latency.js";
import { Pane } from "./pane.js";
import { post } from "./tokens.js";
import { make } from "./view.js";

const BURST = 20;
const BURST_PAUSE_MS = 60; // Below the limit for broadcasts, 20 a second.
const DEFAULT_TOPICS = "orders.eu";
const NOBODY = { user: "", tenant: "", roles: "", topics: DEFAULT_TOPICS };

const at = (id) => document.getElementById(id);
const fieldsOf = (form) => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
const listOf = (text) => text.split(",").map((item) => item.trim()).filter(Boolean);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const latency = new Latency();
let panes = [];

// -- who is there ---------------------------------------------------------------------------------------------------

/** Returns whom the address names, one user for each `user` in it; alice and bob when it names nobody. */
function asked() {
  const address = new URLSearchParams(location.search);
  if (![...address.keys()].some((name) => name in NOBODY)) {
    return [{ ...NOBODY, user: "alice" }, { ...NOBODY, user: "bob", roles: "admin" }];
  }
  const users = address.has("user") ? address.getAll("user") : ["alice"];
  const nth = (name, index) => address.getAll(name)[index] ?? NOBODY[name];
  return users
    .map((user, index) => ({ user, tenant: nth("tenant", index), roles: nth("roles", index), topics: nth("topics", index) }))
    .filter(({ user }) => user);
}

/** The address keeps who is there, so that a reload and a second tab know it too. */
function keepAddress() {
  const address = new URLSearchParams();
  for (const { identity, topics } of panes) {
    const fields = { ...identity, roles: identity.roles.join(","), topics: topics.join(",") };
    for (const [name, value] of Object.entries(fields)) address.append(name, value);
  }
  if (!panes.length) address.append("user", "");
  if (location.search !== `?${address}`) history.replaceState(null, "", `?${address}`);
}

function join(fields) {
  const identity = { ...fields, roles: listOf(fields.roles), topics: listOf(fields.topics) };
  const isHere = panes.some((pane) => pane.key === JSON.stringify([identity.tenant, identity.user]));
  at("joined").textContent = isHere ? `${identity.user} is here already` : "";
  if (isHere) return;
  const pane = new Pane(identity, { onArrival: (...arrival) => latency.arrived(...arrival), onChange: () => queueMicrotask(showAll) });
  panes.push(pane);
  at("joining").before(pane.element);
}

function showAll() {
  panes = panes.filter(({ element }) => element.isConnected);
  keepAddress();
  const present = panes.filter((pane) => !pane.isSignedOut);
  at("cut-all").textContent = present.some((pane) => !pane.isCut) ? "Cut everyone" : "Restore everyone";
  at("cut-all").disabled = !present.length;
  const choice = at("send").elements.as;
  const chosen = choice.value;
  choice.replaceChildren(...present.map(({ key, identity: { user, tenant } }) => make("option", { value: key }, tenant ? `${user} of ${tenant}` : user)));
  if (present.some(({ key }) => key === chosen)) choice.value = chosen;
}

function cutOrRestore() {
  const open = panes.filter((pane) => !pane.isCut && !pane.isSignedOut);
  for (const pane of open) pane.cut();
  if (!open.length) for (const pane of panes) pane.restore();
}

// -- sending --------------------------------------------------------------------------------------------------------

/** Sends what the form says, to `kind` if given, with the token of a user here. Returns what to say about it. */
async function send({ kind: toKind, suffix = "" } = {}) {
  const { kind = toKind, name, data, as, ...texts } = { ...fieldsOf(at("send")), ...(toKind && { kind: toKind }) };
  const sender = panes.find(({ key, isSignedOut }) => key === as && !isSignedOut);
  if (!sender) return "sign in first";
  const notification = { to: { [kind]: kind === "everyone" ? true : [name] } };
  for (const [field, text] of Object.entries(texts)) if (text) notification[field] = text;
  if (suffix) notification.title = `${notification.title ?? "Burst"} ${suffix}`;
  try {
    if (data) notification.data = JSON.parse(data);
    const token = await sender.token();
    const sentAt = performance.now();
    const { id } = await post("/notify", notification, { Authorization: `Bearer ${token}` });
    latency.sent(id, sentAt);
    sender.hasSent();
    return `202 queued: ${id}`;
  } catch (error) {
    return error.message;
  }
}

async function say(sending) {
  at("answer").textContent = "…";
  at("answer").textContent = await sending;
}

async function burst() {
  at("burst").disabled = true;
  for (let count = 1; count <= BURST; count++) {
    await say(send({ suffix: `${count}/${BURST}` }));
    await pause(BURST_PAUSE_MS);
  }
  at("burst").disabled = false;
  at("burst").focus();
}

function showKind() {
  const { kind, name } = at("send").elements;
  name.disabled = kind.value === "everyone";
  name.required = !name.disabled;
}

// -- the page -------------------------------------------------------------------------------------------------------

at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  join(fieldsOf(event.target));
});
at("send").addEventListener("submit", (event) => {
  event.preventDefault();
  say(send());
});
at("send").elements.kind.addEventListener("change", showKind);
at("broadcast").addEventListener("click", () => say(send({ kind: "everyone" })));
at("burst").addEventListener("click", () => at("send").reportValidity() && burst());
at("cut-all").addEventListener("click", cutOrRestore);
addEventListener("pagehide", () => panes.forEach((pane) => pane.save()));
setInterval(() => panes.forEach((pane) => pane.tick()), 250);

for (const identity of asked()) join(identity);
at("send").elements.name.value = "alice";
at("sign-in").elements.topics.value = DEFAULT_TOPICS;
showKind();
showAll();
