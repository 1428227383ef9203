/** Live notifications for a page, from notifier. */

export interface Notification {
  id: string;
  type: string;
  title?: string;
  body?: string;
  /** An https URL or an absolute path; see `safeLink`. */
  link?: string;
  data?: Record<string, unknown>;
  /** RFC 3339, UTC. */
  created_at: string;
  expires_at?: string;
  collapse_key?: string;
  topics?: string[];
  /** The id of the notification that this one is to be shown in place of. */
  replaces?: string;
}

export type State =
  | { state: "connecting" | "offline" | "closed" }
  | { state: "live"; transport?: "websocket" | "sse"; resume?: Resume; isDegraded?: boolean }
  /** `retryAt`: in milliseconds since 1970. */
  | { state: "waiting"; reason: string; retryAt: number }
  /** The service does not want this client back until something changes. */
  | { state: "stopped"; code: number; reason: string };

/** How the session began; `replayed`: how many notifications follow that were missed. */
export interface Resume {
  status: "new" | "resumed" | "reset";
  replayed?: number;
  reason?: string;
}

export interface Reset {
  reason: string;
  availableSince?: string;
}

export interface Options {
  /** Of the service, such as `https://push.example.com`; left out: the origin of the page. */
  url?: string;
  /** Asked when there is no token that is good. An error with `isFinal` stops the client. */
  getToken: () => string | Promise<string>;
  topics?: readonly string[];
  /** Where to resume from; left out: where this tab, or this account, stood last. */
  position?: string | null;
  /** One connection for all tabs of a browser; true unless told otherwise. */
  share?: boolean;
  /** Keep the position in the browser's storage; true unless told otherwise. */
  keep?: boolean;
}

export interface Events {
  notification: Notification;
  state: State;
  reset: Reset;
  error: NotifierError;
  /** Ids that another tab of this account has shown to somebody. */
  read: readonly string[];
}

export class NotifierError extends Error {
  readonly code: string | number;
  readonly detail: string;
}

export class NotifierClient implements AsyncIterable<Notification> {
  constructor(options: Options);
  readonly state: State;
  readonly position: string | null;
  on<Name extends keyof Events>(name: Name, listener: (value: Events[Name]) => void): () => void;
  subscribe(...topics: (string | readonly string[])[]): void;
  unsubscribe(...topics: (string | readonly string[])[]): void;
  /** Tells the other tabs of this account what was seen here, by id. */
  markRead(ids: readonly string[]): void;
  close(): void;
  logout(): void;
  [Symbol.asyncIterator](): AsyncGenerator<Notification, void, undefined>;
}

export function safeLink(link: string): string | null;
