// A small React application, for the tests of the hook: `render` in a browser, `html` on a server.
import { StrictMode, createElement, useEffect, useState } from "react";
import { useNotifications } from "../../notifier/clients/web/client/react.js";

function Inbox({ url, getToken, topics }) {
  const { notifications, unread, state, markRead, logout } = useNotifications({
    url,
    getToken,
    topics,
    onError: ({ code, detail }) => (window.errors = [...(window.errors ?? []), { code, detail }]),
  });
  useEffect(() => {
    window.shown = [...new Set(window.shown).add(state.state)];
  }, [state]);
  return (
    <section>
      <output id="state">{state.state}</output>
      <output id="unread">{unread}</output>
      <button onClick={markRead}>Mark read</button>
      <button onClick={logout}>Sign out</button>
      <ul>
        {notifications.map(({ id, title }) => (
          <li key={id}>{title}</li>
        ))}
      </ul>
    </section>
  );
}

export function App({ url, getToken }) {
  const [isShown, show] = useState(true);
  const [topics, setTopics] = useState(["orders.eu"]);
  return (
    <StrictMode>
      <button onClick={() => show(!isShown)}>Toggle</button>
      <button onClick={() => setTopics(["orders.us"])}>Move</button>
      {isShown && <Inbox url={url} getToken={() => getToken()} topics={topics} />}
    </StrictMode>
  );
}

export const app = (properties) => createElement(App, properties);
