/**
 * One session for all tabs of a browser: the tab that holds a Web Lock has it, and passes on what it hears.
 *
 * A leader that is gone loses the lock by itself. One that is frozen stops answering, and the lock is taken from it. A page
 * that is put away for the way back parts from the others, and joins them again as one that was loaded anew does.
 */

import { Session } from "./session.js";

const ASK_MS = 400;
const PATIENCE_MS = 1_200; // Without a word of the leader.
const ASLEEP_MS = 1_500; // A timer that is so late did not run: it is we who slept.
const RECENT_LIMIT = 1_000;
const CODES_OF_TOKENS = [4401, 4402, 4403];

export const canShare = () => typeof BroadcastChannel === "function" && Boolean(navigator.locks);

export class SharedSession {
  position; // Up to where this tab has heard; null until it knows.
  #name;
  #options;
  #id = `${Date.now()} ${Math.random()}`;
  #channel = null; // Null while this tab takes no part: put away, or closed.
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
  #isStopped = false; // Then it listens for a logout alone.

  /** As `Session`. Tabs with the same name share; `fallback`: where to begin when this tab has no position, and leads. */
  constructor({ name, fallback, ...options }) {
    this.#name = name;
    this.#options = { ...options, fallback };
    this.position = options.position;
    this.#topics = new Map([[this.#id, options.topics]]);
  }

  open() {
    addEventListener("pagehide", this.#part);
    addEventListener("pageshow", this.#meet);
    this.#meet();
  }

  close() {
    removeEventListener("pagehide", this.#part);
    removeEventListener("pageshow", this.#meet);
    this.#part();
  }

  setTopics(topics) {
    this.#topics.set(this.#id, topics);
    this.#sayTopics();
    this.#session?.setTopics(this.#allTopics());
  }

  /** Take part. */
  #meet = () => {
    if (this.#channel) return;
    this.#topics = new Map([[this.#id, this.#topics.get(this.#id)]]);
    this.#leader = null;
    this.#isCaughtUp = false;
    this.#heardAt = this.#tickedAt = Date.now();
    this.#channel = new BroadcastChannel(this.#name);
    this.#channel.onmessage = ({ data }) => this.#take(data);
    if (this.#isStopped) return;
    this.#ticking = setInterval(() => this.#tick(), ASK_MS);
    this.#join();
    this.#queue();
  };

  /** Take no part any more. The lock is given back at once: nobody has to notice that a page which is put away is silent. */
  #part = () => {
    if (!this.#channel) return;
    this.#retire();
    this.#channel.close();
    this.#channel = null;
  };

  /** Neither lead nor follow. */
  #retire() {
    this.#say("bye");
    clearInterval(this.#ticking);
    this.#waiting?.abort();
    this.#stepDown();
  }

  logout() {
    this.#say("logout");
  }

  markRead(ids) {
    this.#say("read", { ids });
  }

  // -- who leads ------------------------------------------------------------------------------------------------------

  #queue({ isStealing = false } = {}) {
    this.#waiting?.abort();
    const { signal } = (this.#waiting = new AbortController());
    const options = isStealing ? { steal: true } : { signal };
    const onEnd = () => signal.aborted || this.#lost();
    // The lock may come when it is not wanted any more: a theft knows no signal.
    navigator.locks.request(this.#name, options, () => (signal.aborted ? null : this.#lead())).then(onEnd, onEnd);
  }

  /** Has the session for as long as the promise is pending. */
  #lead() {
    const held = new Promise((release) => (this.#release = release)); // First: what follows may end in `close`.
    this.#leader = this.#id;
    this.#isCaughtUp = true;
    const position = this.position ?? this.#options.fallback;
    if (position) this.#recent.push({ type: "start", position }); // Of a tab that stood there nothing is missing either.
    this.#session = new Session({
      ...this.#options,
      topics: this.#allTopics(),
      position,
      onFrame: (frame) => this.#pass(frame),
      onState: (state, more) => this.#announce({ state, more }),
    });
    this.#say("lead");
    this.#session.open();
    return held;
  }

  /** The lock was taken from us, or we gave it back. */
  #lost() {
    this.#stepDown();
    this.#queue();
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
      this.#queue({ isStealing: true });
    } else {
      this.#say("ask");
    }
  }

  // -- what is said ---------------------------------------------------------------------------------------------------

  #say(kind, content) {
    this.#channel?.postMessage({ ...content, kind, from: this.#id });
  }

  #take({ kind, from, ...content }) {
    if (kind === "lead") this.#stepDown(); // Whoever had it until now.
    if (kind === "logout") this.#options.onLogout();
    if (kind === "read") this.#options.onRead(content.ids);
    if (!this.#channel || this.#isStopped) return;
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
    if (kind === "state") this.#followState(content);
  }

  /** A leader whose token was refused has given the lock back: whoever has it next tries a token of its own. */
  #followState({ state, more }) {
    if (state === "stopped" && CODES_OF_TOKENS.includes(more.code)) this.#leader = null;
    else this.#become(state, more);
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
    if (tail) this.#hear({ type: "tail", position: tail });
    if (state) this.#options.onState(state.state, state.more);
  }

  #pass(frame) {
    this.#say("frame", { frame });
    this.#hear(frame);
  }

  #announce(state) {
    this.#state = state;
    this.#say("state", state);
    this.#become(state.state, state.more);
  }

  /** A tab that is stopped keeps nothing from the others, who may have a better token. */
  #become(state, more) {
    if (state === "stopped") {
      this.#isStopped = true;
      this.#retire();
    }
    this.#options.onState(state, more);
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

  #sayTopics() {
    this.#say("topics", { topics: this.#topics.get(this.#id) });
  }
}
