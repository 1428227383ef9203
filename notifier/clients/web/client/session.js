/** One session that is kept open: reconnects with back-off, resumes where it stood, and keeps its token fresh. */

import { LOST, SocketConnection, StreamConnection } from "./connection.js";

const TOKEN_EXPIRED = 4401;
const TOKEN_INVALID = 4402;
const BACKOFF_MS = [500, 30_000];
const OPENING_MS = 10_000;
const LONG_MS = 5_000; // A session that lived for so long was no failure.
const BLOCKED_ATTEMPTS = 2; // Without a word, before the other transport is tried.

export class Session {
  position;
  #url;
  #tokens;
  #topics;
  #onFrame;
  #onState;
  #connection = null; // Null between two attempts.
  #timer = null; // Until the next attempt, or until the present one has been silent for too long.
  #attempt = 0; // Numbers them, so that a token that comes too late opens nothing.
  #token = null;
  #expired = null; // The token that was called expired; null since another one was welcome.
  #failures = 0;
  #askedMs = null; // What the service asked us to wait, in `reconnect`.
  #silentMs = OPENING_MS;
  #heardAt = 0;
  #liveAt = null; // Null until the welcome.
  #unheard = 0; // Attempts in a row without a word.
  #isStreaming = false;
  #isClosed = false;

  /** `onFrame` is told each frame, `onState` a state and what belongs to it. Nothing happens before `open`. */
  constructor({ url, tokens, topics, position, onFrame, onState }) {
    this.#url = url;
    this.#tokens = tokens;
    this.#topics = new Set(topics);
    this.position = position;
    this.#onFrame = onFrame;
    this.#onState = onState;
  }

  open() {
    addEventListener("online", this.#hurry);
    addEventListener("offline", this.#pause);
    addEventListener("pageshow", this.#comeBack);
    addEventListener("pagehide", this.#putAway);
    document.addEventListener("visibilitychange", this.#wake);
    this.#connect();
  }

  close() {
    this.#isClosed = true;
    this.#leave();
    removeEventListener("online", this.#hurry);
    removeEventListener("offline", this.#pause);
    removeEventListener("pageshow", this.#comeBack);
    removeEventListener("pagehide", this.#putAway);
    document.removeEventListener("visibilitychange", this.#wake);
  }

  /** Be subscribed to exactly these. */
  setTopics(topics) {
    const wanted = new Set(topics);
    const more = [...wanted].filter((topic) => !this.#topics.has(topic));
    const less = [...this.#topics].filter((topic) => !wanted.has(topic));
    this.#topics = wanted;
    if (!this.#connection || !(more.length || less.length)) return;
    if (!this.#connection.constructor.canSay || this.#liveAt === null) {
      this.#connect();
      return;
    }
    if (more.length) this.#connection.say({ type: "subscribe", topics: more });
    if (less.length) this.#connection.say({ type: "unsubscribe", topics: less });
  }

  async #connect() {
    this.#leave();
    if (this.#isClosed) return;
    const attempt = this.#attempt;
    this.#onState("connecting");
    try {
      this.#token = await this.#tokens.get(this.#expired);
    } catch (error) {
      if (attempt === this.#attempt) this.#tokenFailed(error);
      return;
    }
    if (attempt !== this.#attempt) return;
    const Connection = this.#isStreaming ? StreamConnection : SocketConnection;
    try {
      this.#connection = new Connection({
        url: this.#url,
        token: this.#token,
        position: this.position,
        topics: [...this.#topics],
        hear: (frame) => this.#hear(frame),
        part: (end) => this.#part(end),
      });
    } catch (error) {
      this.#retry(String(error).replaceAll(this.#token, "…"), null); // A browser names what it does not take.
      return;
    }
    this.#silentMs = OPENING_MS;
    this.#expectMore();
  }

  #hear(frame) {
    this.#unheard = 0;
    if (frame.type === "welcome") this.#welcome(frame);
    else if (frame.type === "reconnect") this.#askedMs = frame.after_ms;
    else if (frame.type === "token_expiring") this.#refresh();
    this.position = frame.position ?? this.position;
    this.#onFrame(frame);
    this.#expectMore();
  }

  #welcome({ heartbeat_seconds: heartbeatSeconds, resume }) {
    if (this.#token !== this.#expired) this.#expired = null;
    this.#liveAt = Date.now();
    this.#silentMs = 2_000 * heartbeatSeconds;
    this.#onState("live", { transport: this.#isStreaming ? "sse" : "websocket", resume });
  }

  async #refresh() {
    const { constructor } = this.#connection;
    const attempt = this.#attempt;
    const token = await this.#tokens.get(this.#token).catch(() => null); // Without one the session ends with 4401.
    if (token === null || attempt !== this.#attempt || token === this.#token) return;
    this.#token = token;
    if (constructor.canSay) this.#connection.say({ type: "refresh", token });
    else this.#connect();
  }

  #part({ code, reason, afterMs = null }) {
    const hasWelcome = this.#liveAt !== null;
    const wasLong = hasWelcome && this.#token !== this.#expired && Date.now() - this.#liveAt > LONG_MS;
    if (wasLong) this.#failures = 0;
    this.#leave();
    if (code === TOKEN_EXPIRED && (hasWelcome || this.#expired === null)) {
      this.#expired = this.#token;
      // One that is let in and at once shown out is a failure: while clocks may differ that would go on and on.
      if (wasLong || !hasWelcome) this.#connect();
      else this.#retry(reason, null);
    } else if (code >= 4400 && code <= 4499) {
      this.#stop(code, reason);
    } else {
      if (code === LOST && !hasWelcome) this.#changeTransport();
      this.#retry(reason || String(code), afterMs);
    }
  }

  /** A proxy that blocks one transport looks like a service that is away; so either is tried until one is heard. */
  #changeTransport() {
    this.#unheard += 1;
    if (this.#unheard % BLOCKED_ATTEMPTS === 0) this.#isStreaming = !this.#isStreaming;
  }

  #tokenFailed(error) {
    if (error?.isFinal) {
      this.#stop(TOKEN_INVALID, String(error));
    } else {
      this.#retry(String(error), null);
    }
  }

  #stop(code, reason) {
    this.close();
    this.#onState("stopped", { code, reason });
  }

  /** Full jitter: any time up to a ceiling that doubles with each failure; on top of what the service asks for. */
  #retry(reason, afterMs) {
    const [least, most] = BACKOFF_MS;
    const jitterMs = Math.random() * Math.min(most, least * 2 ** this.#failures++);
    const waitMs = this.#askedMs ?? (afterMs ?? 0) + jitterMs;
    this.#askedMs = null;
    if (navigator.onLine === false) {
      this.#pause();
      return;
    }
    this.#onState("waiting", { reason, retryAt: Date.now() + waitMs });
    this.#timer = setTimeout(() => this.#connect(), waitMs);
  }

  #expectMore() {
    this.#heardAt = Date.now();
    clearTimeout(this.#timer);
    if (!this.#connection) return; // Whoever was told the frame has closed it.
    this.#timer = setTimeout(() => this.#part({ code: LOST, reason: "silence" }), this.#silentMs);
  }

  /** The network is back. */
  #hurry = () => {
    if (!this.#isClosed && this.#liveAt === null) this.#connect();
  };

  /** The network is gone. What a browser knows of that may be wrong, so it is tried all the same, and slowly. */
  #pause = () => {
    this.#leave();
    this.#onState("offline");
    this.#timer = setTimeout(() => this.#connect(), BACKOFF_MS[1]);
  };

  /** A page that is kept for the way back has no connection. */
  #putAway = ({ persisted }) => persisted && this.#leave();
  #comeBack = ({ persisted }) => persisted && this.#connect();

  /** The page is looked at again, perhaps after a night in which no timer ran. */
  #wake = () => {
    if (document.visibilityState !== "visible") return;
    const isSilent = this.#connection && Date.now() - this.#heardAt > this.#silentMs;
    const isWaiting = !this.#connection && this.#timer !== null;
    if (isSilent || isWaiting) this.#connect();
  };

  #leave() {
    this.#attempt += 1;
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#connection?.leave();
    this.#connection = null;
    this.#liveAt = null;
  }
}
