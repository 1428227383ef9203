/* The demo page: signs in, receives with resume and without repeats, shows what comes, and sends. */

const PROTOCOL = "notifier.v1";
const TOKEN_EXPIRED = 4401;
const BACKOFF_MS = [500, 10_000];
const OPENING_MS = 10_000;
const SEEN_LIMIT = 1_000;
const SHOWN_LIMIT = 100;

/** What survives a reload of this tab: the position, the ids seen, what is shown. Saved as one, so that they agree. */
class Memory {
  #name;
  #timer = null;

  constructor({ tenant, user }) {
    this.#name = `notifier.demo ${JSON.stringify([tenant, user])}`;
    const kept = JSON.parse(sessionStorage.getItem(this.#name) ?? "{}");
    this.position = kept.position ?? null;
    this.seen = new Set(kept.seen);
    this.shown = kept.shown ?? []; // Newest first.
  }

  /** Takes a notification in, in place of an older one of its collapse key. Returns false when it came before. */
  take(notification) {
    const { id, collapse_key: key } = notification;
    if (this.seen.has(id)) return false;
    this.seen.add(id);
    if (this.seen.size > SEEN_LIMIT) this.seen.delete(this.seen.values().next().value);
    const others = this.shown.filter((other) => key === undefined || other.collapse_key !== key);
    this.shown = [notification, ...others].slice(0, SHOWN_LIMIT);
    return true;
  }

  saveSoon() {
    this.#timer ??= setTimeout(() => this.save(), 250);
  }

  save() {
    clearTimeout(this.#timer);
    this.#timer = null;
    const kept = { position: this.position, seen: [...this.seen], shown: this.shown };
    try {
      sessionStorage.setItem(this.#name, JSON.stringify(kept));
    } catch {
      // It is full. What came since the last save comes again after a reload, and nothing is missed.
    }
  }
}

/** Keeps one session open: reconnects with back-off, resumes where the memory stands, drops repeats. */
class Receiver {
  #socket = null;
  #timer = null; // Until the next attempt, or until the present one has been silent for too long.
  #patienceMs = OPENING_MS;
  #failures = 0;
  #afterMs = null; // What the service asked us to wait, in `reconnect`.
  #hadExpired = false; // Since the last welcome.
  #isStopped = false;

  /** `onState` is told (name, text, time of the next attempt), `onFrame` that the memory has changed. */
  constructor({ memory, topics, getToken, onState, onFrame }) {
    Object.assign(this, { memory, topics, getToken, onState, onFrame });
    this.#connect();
  }

  stop() {
    this.#isStopped = true;
    this.#leave();
  }

  async #connect({ withFreshToken = false } = {}) {
    this.onState("connecting", "connecting …");
    let token;
    try {
      token = await this.getToken(withFreshToken);
    } catch (error) {
      if (!this.#isStopped) error.isFinal ? this.#refused(error.message) : this.#retry();
      return;
    }
    if (this.#isStopped) return;
    const url = new URL("/ws", location.href.replace(/^http/, "ws"));
    if (this.topics.length) url.searchParams.set("topics", this.topics.join(","));
    if (this.memory.position) url.searchParams.set("position", this.memory.position);
    this.#socket = new WebSocket(url, [PROTOCOL, `bearer.${token}`]);
    this.#socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
    this.#socket.onclose = ({ code, reason }) => this.#part(code, reason);
    this.#patienceMs = OPENING_MS;
    this.#expectMore();
  }

  #hear(frame) {
    if (frame.type === "welcome") this.#welcome(frame);
    if (frame.type === "notification") this.memory.take(frame.notification);
    if (frame.type === "reconnect") this.#afterMs = frame.after_ms;
    if (frame.position) this.memory.position = frame.position;
    this.memory.saveSoon();
    this.onFrame();
    this.#expectMore();
  }

  #welcome({ resume, denied, heartbeat_seconds: heartbeatSeconds }) {
    this.#failures = 0;
    this.#hadExpired = false;
    this.#patienceMs = 2_000 * heartbeatSeconds;
    const how = {
      new: "",
      resumed: ` · resumed, ${resume.replayed} replayed`,
      reset: ` · reset (${resume.reason}), some may be missing`,
    }[resume.status];
    const without = denied.map(({ topic, code }) => ` · no ${topic} (${code})`).join("");
    this.onState("live", `live${how}${without}`);
  }

  #part(code, reason) {
    this.#leave();
    if (code === TOKEN_EXPIRED && !this.#hadExpired) {
      this.#hadExpired = true;
      this.#connect({ withFreshToken: true });
    } else if (code >= 4400 && code <= 4499) {
      this.#refused(`${code} ${reason}`);
    } else {
      this.#retry();
    }
  }

  /** Full jitter: any time up to a ceiling that doubles with each failure. */
  #retry() {
    const [least, most] = BACKOFF_MS;
    const waitMs = this.#afterMs ?? Math.random() * Math.min(most, least * 2 ** this.#failures++);
    this.#afterMs = null;
    this.onState("reconnecting", "reconnecting", Date.now() + waitMs);
    this.#timer = setTimeout(() => this.#connect(), waitMs);
  }

  #refused(reason) {
    this.#isStopped = true;
    this.onState("refused", `refused: ${reason}`);
  }

  #expectMore() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#part(1006, "silence"), this.#patienceMs);
  }

  #leave() {
    clearTimeout(this.#timer);
    if (!this.#socket) return;
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
  }
}

/** Posts JSON. Throws the problem (RFC 9457) of an answer that is one; `isFinal`: asking again would not help. */
async function post(path, content, headers = {}) {
  const answer = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...headers },
    body: JSON.stringify(content),
  });
  const body = await answer.json();
  if (answer.ok) return body;
  const isFinal = answer.status < 500 && answer.status !== 429;
  throw Object.assign(new Error(`${answer.status} ${body.code}: ${body.detail}`), { isFinal });
}

/** Makes a function that has a token for the identity: the same one while it is good, unless asked for a fresh one. */
function tokenSource(identity) {
  let token;
  let goodUntil = 0;
  return async (fresh = false) => {
    if (fresh || Date.now() >= goodUntil) {
      const answer = await post("/demo/token", { ...identity, tenant: identity.tenant || null });
      token = answer.token;
      goodUntil = Date.now() + answer.expires_in_seconds * 1_000;
    }
    return token;
  };
}

/** Returns the link as an address that is safe to follow, https or a path of this origin; null for any other. */
export function safeLink(link) {
  try {
    const url = new URL(link, location.origin);
    const isSafe = link.startsWith("/") ? url.origin === location.origin : url.protocol === "https:";
    return isSafe ? url.href : null;
  } catch {
    return null;
  }
}

// -- the page -------------------------------------------------------------------------------------------------------

const SIGNED_OUT = "notifier.demo signed out"; // In sessionStorage: a reload does not sign in by itself.
const at = (id) => document.getElementById(id);
const fieldsOf = (form) => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]));
const listOf = (text) => text.split(",").map((item) => item.trim()).filter(Boolean);
let present = null; // Who is signed in: {memory, getToken, receiver}. Null: nobody.
let ticking = null;

/** Makes an element. Strings become text in it, never markup. */
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function card({ id, type, title, body, link, data, created_at: createdAt, topics = [] }) {
  const created = new Date(createdAt);
  const time = { dateTime: createdAt, title: created.toLocaleString() };
  const item = make("li", { className: "card" }, make("h3", {}, title ?? type));
  item.dataset.id = id;
  item.append(make("time", time, created.toLocaleTimeString()));
  if (body !== undefined) item.append(make("p", {}, body));
  if (link !== undefined) item.append(make("p", {}, anchor(link)));
  if (data !== undefined) item.append(make("pre", { tabIndex: 0 }, JSON.stringify(data, null, 2)));
  item.append(make("p", { className: "hint" }, [type, ...topics].join(" · ")));
  return item;
}

function anchor(link) {
  const href = safeLink(link);
  return href ? make("a", { href, target: "_blank", rel: "noopener noreferrer" }, link) : link;
}

/** Brings the list in line with the memory. New ones are always in front; the others stay, and are not read out again. */
function show() {
  const { shown, position } = present?.memory ?? { shown: [] };
  const list = at("notifications");
  const ids = new Set(shown.map(({ id }) => id));
  for (const item of [...list.children]) if (!ids.has(item.dataset.id)) item.remove();
  list.prepend(...shown.slice(0, shown.length - list.children.length).map(card));
  at("count").textContent = shown.length;
  at("nothing").hidden = shown.length > 0;
  at("position").textContent = position ?? "–";
}

function showState(name, text, nextAttempt = null) {
  const tick = () => {
    at("countdown").textContent = `in ${Math.max(0, Math.ceil((nextAttempt - Date.now()) / 1_000))} s`;
  };
  clearInterval(ticking);
  at("state").dataset.state = name;
  at("state-text").textContent = text;
  at("countdown").textContent = "";
  if (nextAttempt === null) return;
  tick();
  ticking = setInterval(tick, 250);
}

/** Signs in as who the form says. The address keeps it, so that a reload and a second tab know it too. */
function signIn() {
  const fields = fieldsOf(at("sign-in"));
  const identity = { ...fields, roles: listOf(fields.roles), topics: listOf(fields.topics) };
  history.replaceState(null, "", `?${new URLSearchParams(fields)}`);
  sessionStorage.removeItem(SIGNED_OUT);
  const memory = new Memory(identity);
  const getToken = tokenSource(identity);
  present = { memory, getToken };
  for (const name of ["user", "tenant", "roles", "topics"]) at(`my-${name}`).textContent = fields[name] || "–";
  if (!fields.tenant) at("my-tenant").textContent = "default";
  at("sign-in").hidden = true;
  at("identity").hidden = false;
  at("notifications").replaceChildren();
  show();
  present.receiver = new Receiver({ memory, topics: identity.topics, getToken, onState: showState, onFrame: show });
}

function signOut() {
  present.receiver.stop();
  present.memory.save();
  present = null;
  sessionStorage.setItem(SIGNED_OUT, "yes");
  showState("signed-out", "signed out");
  show();
  at("answer").textContent = "";
  at("identity").hidden = true;
  at("sign-in").hidden = false;
  at("sign-in").elements.user.focus();
}

/** Sends what the form says, with the token of who is signed in. Returns what to say about it. */
async function send() {
  const { kind, name, data, ...texts } = fieldsOf(at("send"));
  if (!present) return "sign in first";
  const notification = { to: { [kind]: kind === "everyone" ? true : [name] } };
  for (const [field, text] of Object.entries(texts)) if (text) notification[field] = text;
  try {
    if (data) notification.data = JSON.parse(data);
    const token = await present.getToken();
    const { id } = await post("/notify", notification, { Authorization: `Bearer ${token}` });
    return `202 queued: ${id}`;
  } catch (error) {
    return error.message;
  }
}

function showKind() {
  const { kind, name } = at("send").elements;
  name.disabled = kind.value === "everyone";
  name.required = !name.disabled;
}

at("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn();
});
at("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  at("answer").textContent = "…";
  at("answer").textContent = await send();
});
at("send").elements.kind.addEventListener("change", showKind);
at("sign-out").addEventListener("click", signOut);
addEventListener("pagehide", () => present?.memory.save());

const asked = new URLSearchParams(location.search);
const defaults = { user: "alice", tenant: "", roles: "", topics: "orders.eu" };
for (const [name, value] of Object.entries(defaults)) at("sign-in").elements[name].value = asked.get(name) ?? value;
at("send").elements.name.value = "alice";
showKind();
if (!sessionStorage.getItem(SIGNED_OUT)) signIn();
