/** What a page shows: the newest notifications, in front; a newer one of a collapse key in place of the older. */

/** `unread`: ids, the newest first. */
export const EMPTY = Object.freeze({ notifications: Object.freeze([]), unread: Object.freeze([]) });

export function add({ notifications, unread }, notification, limit) {
  const { id, replaces } = notification;
  const kept = [notification, ...notifications.filter((other) => other.id !== replaces)].slice(0, limit);
  const ids = new Set(kept.map((other) => other.id));
  return { notifications: kept, unread: [id, ...unread].filter((other) => ids.has(other)) };
}

export const read = ({ notifications, unread }, ids) => ({ notifications, unread: unread.filter((id) => !ids.includes(id)) });
