/**
 * Live notifications for a page.
 *
 *     const client = new NotifierClient({ url: "https://push.example.com", getToken });
 *     client.on("notification", ({ title }) => show(title));
 */

import { SharedSession, canShare } from "./tabs.js";
import { Session } from "./session.js";
import { Tokens, accountOf } from "./tokens.js";

const SEEN_LIMIT = 1_000;
const SAVE_MS = 250;

export class NotifierClient {
  #options;
  #tokens;
  #topics;
  #listeners = new Map();
  #session = null; // Null until the first token says whose it is.
  #state = { state: "connecting" };
  #position;
  #seen = new Map(); // Ids, with their collapse key.
  #latest = new Map(); // Ids, by collapse key.
  #place = null; // Where the position is kept; null: nowhere but here.
  #saving = null;
  #isKept = false; // Whether the storage has had the position.

  /**
   * Connects at once.
   * `url`: of the service, such as `https://push.example.com`. `getToken`: returns a token or a promise of one, is asked
   * when there is none that is good, and may throw an error with `isFinal` to stop. `topics`: to be subscribed to.
   * `position`: where to resume from; left out, where this tab stood, else where this account stood in this browser.
   * `share`: one connection for all tabs. `keep`: the position outlives the page.
   */
  constructor({ url = location.origin, getToken, topics = [], position = null, share = true, keep = true }) {
    this.#options = { url: new URL(url, location.href).href, share, keep }; // Throws for what is no address.
    this.#tokens = new Tokens(getToken);
    this.#topics = new Set(topics);
    this.#position = position;
    addEventListener("pagehide", this.#save);
    addEventListener("pageshow", this.#comeBack);
    this.#start();
  }

  /** `connecting`, `live`, `waiting`, `offline`, `stopped` or `closed`, with what belongs to it. */
  get state() {
    return this.#state;
  }

  get position() {
    return this.#position;
  }

  /** Calls `listener` for `notification`, `state`, `reset`, `error` or `read`. Returns what ends that. */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  /** Subscribes to more topics; one that is denied is told as an `error`. */
  subscribe(...topics) {
    for (const topic of topics.flat()) this.#topics.add(topic);
    this.#session?.setTopics([...this.#topics]);
  }

  unsubscribe(...topics) {
    for (const topic of topics.flat()) this.#topics.delete(topic);
    this.#session?.setTopics([...this.#topics]);
  }

  /** Tells the other tabs of this account what was seen here, by id; they hear it as `read`. */
  markRead(ids) {
    this.#session?.markRead?.([...ids]);
  }

  /** Ends it for this tab; the position stays. */
  close() {
    if (this.#state.state === "closed") return;
    this.#save();
    removeEventListener("pagehide", this.#save);
    removeEventListener("pageshow", this.#comeBack);
    this.#session?.close();
    this.#session = null;
    this.#become("closed");
  }

  /** Ends it for all tabs of this account, and forgets where it stood. */
  logout() {
    this.#session?.logout?.();
    this.#forget();
  }

  /** The notifications from now on, until it is closed; throws when the service does not want us back. */
  async *[Symbol.asyncIterator]() {
    const waiting = [];
    let wake;
    const ends = [
      this.on("notification", (notification) => {
        waiting.push(notification);
        wake?.();
      }),
      this.on("state", () => wake?.()),
    ];
    try {
      for (;;) {
        while (waiting.length) yield waiting.shift();
        const { state, code, reason } = this.#state;
        if (state === "closed") return;
        if (state === "stopped") throw new NotifierError(code, reason);
        await new Promise((resolve) => (wake = resolve));
      }
    } finally {
      for (const end of ends) end();
    }
  }

  // -- the session ----------------------------------------------------------------------------------------------------

  async #start() {
    const { url, share, keep } = this.#options;
    const token = await this.#tokens.get().catch(() => null);
    if (this.#state.state === "closed") return;
    const account = token && accountOf(url, token);
    if (account && keep) this.#place = account;
    this.#position ??= this.#kept(() => sessionStorage);
    const fallback = this.#position ?? this.#kept(() => localStorage);
    const options = {
      url,
      tokens: token ? this.#tokens : { get: () => this.#askAgain() },
      topics: [...this.#topics],
      onFrame: (frame) => this.#take(frame),
      onState: (state, more) => this.#become(state, more),
      onLogout: () => this.#forget(),
      onRead: (ids) => this.#emit("read", ids),
    };
    this.#session =
      account && share && canShare()
        ? new SharedSession({ ...options, name: account, position: this.#position, fallback })
        : new Session({ ...options, position: fallback });
    this.#session.open();
  }

  /** For a session that began without a token, whose it is unknown: it says what is wrong, until all begins anew. */
  async #askAgain() {
    const token = await this.#tokens.get();
    this.#session?.close();
    this.#start();
    return token;
  }

  #take(frame) {
    if (this.#state.state === "closed") return; // By a listener, among several frames.
    const { type, resume, denied = [] } = frame;
    if (type === "notification") this.#show(frame.notification);
    if (type === "degraded" || type === "restored") this.#become("live", { ...this.#state, isDegraded: type === "degraded" });
    if (type === "error") this.#emit("error", new NotifierError(frame.code, frame.detail));
    if (resume?.status === "reset") this.#emit("reset", { reason: resume.reason, availableSince: resume.available_since });
    for (const { topic, code } of denied) this.#emit("error", new NotifierError(code, topic));
    this.#position = frame.position ?? this.#position;
    this.#saving ??= setTimeout(this.#save, SAVE_MS);
  }

  #show(notification) {
    const { id, collapse_key: key, topics } = notification;
    if (this.#seen.has(id) || (topics && !topics.some((topic) => this.#topics.has(topic)))) return;
    this.#seen.set(id, key);
    const replaces = key === undefined ? undefined : this.#latest.get(key);
    if (key !== undefined) this.#latest.set(key, id);
    if (this.#seen.size > SEEN_LIMIT) this.#drop(this.#seen.entries().next().value);
    this.#emit("notification", { ...notification, replaces });
  }

  #drop([id, key]) {
    this.#seen.delete(id);
    if (this.#latest.get(key) === id) this.#latest.delete(key);
  }

  #become(state, more = {}) {
    if (this.#state.state === "closed") return;
    this.#state = { ...more, state };
    this.#emit("state", this.#state);
    if (state === "stopped") this.#emit("error", new NotifierError(more.code, more.reason));
  }

  #emit(name, value) {
    for (const listener of this.#listeners.get(name) ?? []) {
      try {
        listener(value);
      } catch (error) {
        reportError(error); // It is the page's own, and must not end the session.
      }
    }
  }

  // -- where it stood -------------------------------------------------------------------------------------------------

  #kept(storage) {
    try {
      return this.#place && storage().getItem(this.#place);
    } catch {
      return null; // The page may not store anything.
    }
  }

  #save = () => {
    clearTimeout(this.#saving);
    this.#saving = null;
    if (!this.#place || !this.#position) return;
    try {
      sessionStorage.setItem(this.#place, this.#position);
      localStorage.setItem(this.#place, this.#position);
      this.#isKept = true;
    } catch {
      // Full, or not allowed: what came since the last save comes again after a reload.
    }
  };

  /** A page that was put away did not hear of a logout; but what it had kept is gone. */
  #comeBack = () => {
    if (this.#isKept && this.#kept(() => localStorage) === null) this.#forget();
  };

  #forget() {
    const place = this.#place;
    this.#place = null;
    this.close();
    try {
      sessionStorage.removeItem(place);
      localStorage.removeItem(place);
    } catch {
      // Nothing was kept.
    }
  }
}

/** What went wrong; `code` is stable. */
export class NotifierError extends Error {
  constructor(code, detail) {
    super(`${code}: ${detail}`);
    this.code = code;
    this.detail = detail;
  }
}

/** The link as an address that is safe to follow, https or a path of this origin; null for any other. */
export function safeLink(link) {
  try {
    const url = new URL(link, location.origin);
    const isSafe = link.startsWith("/") ? url.origin === location.origin : url.protocol === "https:";
    return isSafe ? url.href : null;
  } catch {
    return null;
  }
}
