import type { Notification, NotifierError, Options, Reset, State } from "./notifier.js";

export interface HookOptions extends Omit<Options, "position"> {
  /** How many notifications are kept; 50 unless told otherwise. */
  limit?: number;
  onReset?: (reset: Reset) => void;
  /** A topic that is denied, a frame that was not understood, the reason of `stopped`. */
  onError?: (error: NotifierError) => void;
}

export interface Inbox {
  /** The newest first. */
  notifications: readonly Notification[];
  unread: number;
  state: State;
  markRead: () => void;
  /** Ends it for all tabs of the account, and forgets where it stood: for when the user signs out. */
  logout: () => void;
}

export function useNotifications(options: HookOptions): Inbox;
