/** What a page shows: the newest notifications, in front; a newer one of a collapse key in place of the older. */

export const EMPTY = Object.freeze({ notifications: Object.freeze([]), unread: 0 });

export function add({ notifications, unread }, notification, limit) {
  const others = notifications.filter(({ id }) => id !== notification.replaces);
  const isNew = others.length === notifications.length;
  const kept = [notification, ...others].slice(0, limit);
  return { notifications: kept, unread: Math.min(unread + Number(isNew || unread === 0), kept.length) };
}

export const read = ({ notifications }) => ({ notifications, unread: 0 });
