/** A React hook over `NotifierClient`: connects in the browser only, once it is mounted, and parts when it is not. */

import { useCallback, useEffect, useRef, useState } from "react";
import { EMPTY, add, read } from "./inbox.js";
import { NotifierClient } from "./notifier.js";

const CONNECTING = Object.freeze({ state: "connecting" });

/**
 * Takes the options of `NotifierClient`, `limit` (50) for how many are kept, `onReset` and `onError`.
 * Returns `{ notifications, unread, state, markRead, logout }`: the newest first.
 */
export function useNotifications({ getToken, topics = [], limit = 50, onReset, onError, ...options }) {
  const [inbox, setInbox] = useState(EMPTY);
  const [state, setState] = useState(CONNECTING);
  const client = useRef(null);
  const latest = useRef({});
  const { url, share, keep } = options;
  const wanted = topics.join(",");

  useEffect(() => {
    latest.current = { getToken, onReset, onError, limit, unread: inbox.unread };
  });
  useEffect(() => {
    const made = new NotifierClient({
      url,
      share,
      keep,
      topics: wanted.split(",").filter(Boolean),
      getToken: () => latest.current.getToken(),
    });
    client.current = { made, topics: wanted };
    setState(made.state); // Not that of the one before it, which was closed.
    setInbox(EMPTY);
    made.on("notification", (notification) => setInbox((inbox) => add(inbox, notification, latest.current.limit)));
    made.on("state", setState);
    made.on("read", (ids) => setInbox((inbox) => read(inbox, ids)));
    made.on("reset", (reset) => latest.current.onReset?.(reset));
    made.on("error", (error) => latest.current.onError?.(error));
    return () => {
      client.current = null;
      made.close();
    };
    // Topics change below, without another connection.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [url, share, keep]);
  useEffect(() => {
    if (!client.current || client.current.topics === wanted) return;
    const [before, after] = [client.current.topics, wanted].map((names) => names.split(",").filter(Boolean));
    client.current.topics = wanted;
    client.current.made.subscribe(after.filter((topic) => !before.includes(topic)));
    client.current.made.unsubscribe(before.filter((topic) => !after.includes(topic)));
  }, [wanted]);

  const markRead = useCallback(() => {
    const { unread } = latest.current;
    client.current?.made.markRead(unread);
    setInbox((inbox) => read(inbox, unread));
  }, []);
  const logout = useCallback(() => {
    client.current?.made.logout();
    setInbox(EMPTY);
  }, []);
  return { ...inbox, unread: inbox.unread.length, state, markRead, logout };
}
