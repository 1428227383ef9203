/* What survives a reload of this tab, for one user of the demo page. */

const SHOWN_LIMIT = 100;

/** Position, list and counts are saved as one, so that they agree: what comes again is known, and nothing is missed. */
export class Memory {
  position = null;
  shown = []; // Newest first.
  counts = { received: 0, replayed: 0, resets: 0, sent: 0 };
  isSignedOut = false;
  #name;

  constructor(key) {
    this.#name = `notifier.demo ${key}`;
    Object.assign(this, JSON.parse(sessionStorage.getItem(this.#name) ?? "{}"));
  }

  /** Takes a notification in, in place of an older one of its collapse key. Returns false when it came before. */
  take(notification) {
    const { id, collapse_key: key } = notification;
    if (this.shown.some((other) => other.id === id)) return false;
    this.counts.received += 1;
    const others = this.shown.filter((other) => key === undefined || other.collapse_key !== key);
    this.shown = [notification, ...others].slice(0, SHOWN_LIMIT);
    return true;
  }

  save() {
    const { position, shown, counts, isSignedOut } = this;
    try {
      sessionStorage.setItem(this.#name, JSON.stringify({ position, shown, counts, isSignedOut }));
    } catch {
      // It is full. What came since the last save comes again after a reload.
    }
  }
}
