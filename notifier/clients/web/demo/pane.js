/* One user on the demo page: a client of her own, what she got, and the buttons that cut it off and bring it back. */

import { NotifierClient } from "/client/v1/notifier.js";
import "/client/v1/bell.js";
import { Memory } from "./memory.js";
import { Tokens } from "./tokens.js";
import { View } from "./view.js";

const SAVE_MS = 250;
// No journal has this epoch: it reads as the position of one that is gone.
const LOST_POSITION = "gone.1.0";
const RESET_MEANS =
  "some may be missing, and the service says so instead of leaving a silent hole. " +
  "A page of yours now fetches from your backend what it shows.";

export class Pane {
  identity;
  #view;
  #memory;
  #client = null; // Null while she is signed out, or cut off.
  #tokens;
  #followed; // Topics; at first those of the identity.
  #resume = null; // How the present session began; null before the first welcome.
  #liveSince = null; // When that was, by performance.now().
  #replaysDue = 0; // How many of those that come next were missed.
  #retryAt = null; // By the clock; null unless the client waits.
  #saving = null;
  #onArrival;
  #onChange;

  /** `identity`: {user, tenant, roles, topics}. `onArrival` is told (id, time, live since); `onChange`, that others may care. */
  constructor(identity, { onArrival, onChange }) {
    this.identity = identity;
    this.#view = new View(identity);
    this.#tokens = new Tokens(identity);
    this.#followed = new Set(identity.topics);
    this.#onArrival = onArrival;
    this.#onChange = onChange;
    this.#memory = new Memory(this.key);
    this.#listen();
    this.#showTopics();
    if (this.isSignedOut) this.#become("signed-out", "signed out");
    else this.#open();
    this.#show();
  }

  get element() {
    return this.#view.element;
  }

  /** Names whoever this is: nobody is twice on the page. */
  get key() {
    return JSON.stringify([this.identity.tenant, this.identity.user]);
  }

  get topics() {
    return [...this.#followed];
  }

  get isSignedOut() {
    return this.#memory.isSignedOut;
  }

  get isCut() {
    return !this.#client && !this.isSignedOut;
  }

  /** A token to send with. A user's token in production would not allow that. */
  token() {
    return this.#tokens.good();
  }

  hasSent() {
    this.#memory.counts.sent += 1;
    this.#show();
  }

  cut() {
    if (!this.#client) return;
    this.#close();
    this.#become("cut", "cut off by you");
  }

  restore() {
    if (this.isCut) this.#open();
  }

  /** Writes down what the clock and the heartbeats change. */
  tick() {
    const seconds = Math.max(0, Math.ceil((this.#retryAt - Date.now()) / 1_000));
    const position = (this.#client?.position ?? this.#memory.position) || "–";
    this.#view.say({ countdown: this.#retryAt === null ? "" : `in ${seconds} s`, position });
  }

  save() {
    clearTimeout(this.#saving);
    this.#saving = null;
    this.#memory.position = this.#client?.position ?? this.#memory.position;
    this.#memory.save();
  }

  // -- the session ----------------------------------------------------------------------------------------------------

  /** Several users share this page, so each has a client that shares with nobody; the page keeps position and list as one. */
  #open(position = this.#memory.position) {
    const client = new NotifierClient({ getToken: this.#tokens.mint, topics: this.topics, position, share: false, keep: false });
    this.#client = client;
    const whileOurs = (listener) => (value) => client === this.#client && listener(value);
    client.on("state", whileOurs((state) => this.#showState(state)));
    client.on("notification", whileOurs((notification) => this.#take(notification)));
    client.on("reset", whileOurs((reset) => this.#hearReset(reset)));
    client.on("error", whileOurs((error) => this.#hearError(error)));
    this.#view.bell.client = client;
    this.#view.say({ notice: "" });
    this.#showState(client.state);
  }

  #close() {
    this.save();
    const client = this.#client;
    this.#client = null;
    client?.close();
  }

  #take(notification) {
    const isReplayed = this.#replaysDue > 0;
    if (isReplayed) this.#replaysDue -= 1;
    if (!this.#memory.take({ ...notification, isReplayed })) return; // It came again: its position had not been saved.
    this.#onArrival(notification.id, performance.now(), this.#liveSince);
    this.#show();
  }

  #hearReset({ reason }) {
    this.#memory.counts.resets += 1;
    this.#view.say({ notice: `Reset (${reason}): ${RESET_MEANS}` });
    this.#show();
  }

  /** A topic that is denied. What stops the client is in its state. */
  #hearError({ code, detail }) {
    if (this.#client.state.state === "stopped") return;
    this.#view.say({ notice: `No ${detail} (${code}).` });
    if (this.#followed.delete(detail)) this.#showTopics();
  }

  #welcome(resume) {
    this.#resume = resume;
    this.#liveSince = performance.now();
    this.#replaysDue = resume.replayed ?? 0;
    this.#memory.counts.replayed += this.#replaysDue;
    this.#show();
  }

  // -- what is seen ---------------------------------------------------------------------------------------------------

  #showState({ state, resume, isDegraded, code, reason, retryAt }) {
    if (state === "live" && resume !== this.#resume) this.#welcome(resume);
    const how = {
      resumed: ` · resumed, ${resume?.replayed} replayed`,
      reset: ` · reset (${resume?.reason})`,
    };
    const [name, text] = {
      connecting: ["connecting", "connecting …"],
      live: ["live", `live${how[resume?.status] ?? ""}${isDegraded ? " · the journal is away" : ""}`],
      waiting: ["reconnecting", "reconnecting"],
      offline: ["reconnecting", "offline"],
      stopped: ["refused", `refused: ${this.#tokens.refusal ?? `${code} ${reason}`}`],
    }[state];
    this.#become(name, text, retryAt);
  }

  #become(name, text, retryAt = null) {
    this.#retryAt = retryAt;
    this.#view.become(name, text, this);
    this.tick();
    this.#onChange();
  }

  #show() {
    const counts = Object.entries(this.#memory.counts).map(([name, count]) => [name, String(count)]);
    this.#view.say(Object.fromEntries(counts));
    this.#view.list(this.isSignedOut ? [] : this.#memory.shown);
    this.#saving ??= setTimeout(() => this.save(), SAVE_MS);
  }

  #showTopics() {
    this.#view.topics(this.topics, (topic) => this.#leave(topic));
    this.#onChange();
  }

  // -- what is done ---------------------------------------------------------------------------------------------------

  #listen() {
    const actions = {
      cut: () => (this.isCut ? this.restore() : this.cut()),
      reset: () => this.#forceReset(),
      "sign-out": () => this.#signOut(),
      "sign-in": () => this.#signIn(),
      remove: () => this.#remove(),
    };
    for (const [name, act] of Object.entries(actions)) this.#view.button(name).addEventListener("click", act);
    this.element.querySelector(".topics").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#follow(event.target.elements.topic);
    });
  }

  #forceReset() {
    this.#close();
    this.#open(LOST_POSITION);
  }

  #follow(input) {
    const topic = input.value.trim();
    input.value = "";
    this.#view.say({ notice: "" });
    this.#followed.add(topic);
    this.#client?.subscribe(topic);
    this.#showTopics();
  }

  #leave(topic) {
    this.#followed.delete(topic);
    this.#client?.unsubscribe(topic);
    this.#showTopics();
    this.element.querySelector(".topics input").focus();
  }

  #signOut() {
    this.#memory.isSignedOut = true;
    this.#close();
    this.#view.say({ notice: "" });
    this.#view.bell.client = null;
    this.#become("signed-out", "signed out");
    this.#show();
    this.#view.button("sign-in").focus();
  }

  #signIn() {
    this.#memory.isSignedOut = false;
    this.#open();
    this.#show();
    this.#view.button("sign-out").focus();
  }

  #remove() {
    this.element.remove();
    this.#onChange();
  }
}
