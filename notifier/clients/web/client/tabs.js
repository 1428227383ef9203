/**
 * One session for all tabs of a browser: the tab that holds a Web Lock has it, and passes on what it hears.
 *
 * A leader that is gone loses the lock by itself. One that is frozen stops answering, and the lock is taken from it.
 */

import { Session } from "./session.js";

const ASK_MS = 400;
const PATIENCE_MS = 1_200; // Without a word of the leader.
const ASLEEP_MS = 1_500; // A timer that is so late did not run: it is we who slept.
const RECENT_LIMIT = 1_000;

export const canShare = () => typeof BroadcastChannel === "function" && Boolean(navigator.locks);

export class SharedSession {
  position; // Up to where this tab has heard; null until it knows.
  #name;
  #options;
  #id = `${Date.now()} ${Math.random()}`;
  #channel;
  #topics; // Of each tab, by its id.
  #session = null; // Null while another tab leads.
  #leader = null; // The id of the tab that leads; null until one says so.
  #recent = []; // The last frames, for a tab that is loaded again.
  #state = null; // What the leader announced last.
  #isCaughtUp = false; // Until then, what the leader passes on is in its answer to us as well.
  #waiting = null; // Ends the wait for the lock.
  #release = null; // Gives the lock back.
  #heardAt = Date.now();
  #tickedAt = Date.now();
  #ticking;
  #isClosed = false;

  /** As `Session`. Tabs with the same name share; `fallback`: where to begin when this tab has no position, and leads. */
  constructor({ name, fallback, ...options }) {
    this.#name = name;
    this.#options = { ...options, fallback };
    this.position = options.position;
    this.#topics = new Map([[this.#id, options.topics]]);
  }

  open() {
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#take(data);
    this.#ticking = setInterval(() => this.#tick(), ASK_MS);
    addEventListener("pagehide", this.#sayBye);
    addEventListener("pageshow", this.#sayTopics);
    this.#join();
    this.#queue();
  }

  close() {
    this.#isClosed = true;
    this.#sayBye();
    removeEventListener("pagehide", this.#sayBye);
    removeEventListener("pageshow", this.#sayTopics);
    clearInterval(this.#ticking);
    this.#waiting.abort();
    this.#stepDown();
    this.#channel.close();
  }

  setTopics(topics) {
    this.#topics.set(this.#id, topics);
    this.#sayTopics();
    this.#session?.setTopics(this.#allTopics());
  }

  logout() {
    this.#say("logout");
  }

  // -- who leads ------------------------------------------------------------------------------------------------------

  #queue() {
    const waiting = (this.#waiting = new AbortController());
    const onEnd = () => waiting.signal.aborted || this.#lost();
    navigator.locks.request(this.#name, { signal: waiting.signal }, () => this.#lead()).then(onEnd, onEnd);
  }

  #steal() {
    this.#waiting.abort();
    const onEnd = () => this.#lost();
    navigator.locks.request(this.#name, { steal: true }, () => this.#lead()).then(onEnd, onEnd);
  }

  /** Has the session for as long as the promise is pending. */
  #lead() {
    if (this.#isClosed) return null;
    this.#leader = this.#id;
    this.#isCaughtUp = true;
    this.#session = new Session({
      ...this.#options,
      topics: this.#allTopics(),
      position: this.position ?? this.#options.fallback,
      onFrame: (frame) => this.#pass(frame),
      onState: (state, more) => this.#announce({ state, more }),
    });
    this.#say("lead");
    this.#session.open();
    return new Promise((release) => (this.#release = release));
  }

  /** The lock was taken from us, or we gave it back. */
  #lost() {
    this.#stepDown();
    if (!this.#isClosed) this.#queue();
  }

  #stepDown() {
    this.#session?.close();
    this.#session = null;
    this.#release?.();
    this.#release = null;
    this.#heardAt = Date.now();
  }

  #tick() {
    const now = Date.now();
    if (now - this.#tickedAt > ASLEEP_MS) this.#heardAt = now;
    this.#tickedAt = now;
    if (this.#session) return;
    if (now - this.#heardAt > PATIENCE_MS) {
      this.#heardAt = now;
      this.#steal();
    } else {
      this.#say("ask");
    }
  }

  // -- what is said ---------------------------------------------------------------------------------------------------

  #say(kind, content) {
    this.#channel.postMessage({ ...content, kind, from: this.#id });
  }

  #take({ kind, from, ...content }) {
    if (kind === "lead") this.#stepDown(); // Whoever had it until now.
    if (kind === "logout") this.#options.onLogout();
    if (this.#isClosed) return;
    if (kind === "topics" || kind === "join") this.#topics.set(from, content.topics);
    if (kind === "bye") this.#topics.delete(from);
    if (this.#session) this.#answer(kind, from, content);
    else this.#follow(kind, from, content);
  }

  #answer(kind, from, { position }) {
    if (kind === "ask") this.#say("answer");
    if (kind === "join") this.#say("welcome", { to: from, state: this.#state, ...this.#since(position) });
    if (kind === "topics" || kind === "join" || kind === "bye") this.#session.setTopics(this.#allTopics());
  }

  #follow(kind, from, content) {
    if (kind === "lead") {
      this.#leader = from;
      if (this.#isCaughtUp) this.#sayTopics();
      else this.#join();
    }
    if (kind === "welcome" && content.to === this.#id && !this.#isCaughtUp) this.#catchUp(from, content);
    if (from !== this.#leader) return;
    this.#heardAt = Date.now();
    if (!this.#isCaughtUp) return;
    if (kind === "frame") this.#hear(content.frame);
    if (kind === "state") this.#options.onState(content.state, content.more);
  }

  #join() {
    this.#say("join", { topics: this.#topics.get(this.#id), position: this.position });
  }

  /** What a tab that begins with `position` has missed. One that is not among the recent ones may have missed more. */
  #since(position) {
    const tail = this.#session.position;
    if (!position || position === tail) return { isKnown: true, frames: [], tail };
    const at = this.#recent.map((frame) => frame.position).lastIndexOf(position);
    return { isKnown: at >= 0, frames: at < 0 ? [] : this.#recent.slice(at + 1), tail };
  }

  #catchUp(leader, { state, isKnown, frames, tail }) {
    this.#leader = leader;
    this.#isCaughtUp = true;
    if (!isKnown) this.#hear({ type: "welcome", resume: { status: "reset", reason: "position_unknown" } });
    for (const frame of frames) this.#hear(frame);
    this.position = tail ?? this.position;
    if (state) this.#options.onState(state.state, state.more);
  }

  #pass(frame) {
    this.#say("frame", { frame });
    this.#hear(frame);
  }

  #announce(state) {
    this.#state = state;
    this.#say("state", state);
    this.#options.onState(state.state, state.more);
  }

  #hear(frame) {
    this.#recent.push(frame);
    if (this.#recent.length > RECENT_LIMIT) this.#recent.shift();
    this.position = frame.position ?? this.position;
    this.#options.onFrame(frame);
  }

  #allTopics() {
    return [...new Set([...this.#topics.values()].flat())];
  }

  #sayBye = () => this.#say("bye");
  #sayTopics = () => this.#say("topics", { topics: this.#topics.get(this.#id) });
}
