// What the types allow and what they do not; checked, never run.
import { NotifierClient, safeLink, type Notification, type State } from "../../notifier/clients/web/client/notifier.js";
import { useNotifications } from "../../notifier/clients/web/client/react.js";
import "../../notifier/clients/web/client/bell.js";

const client = new NotifierClient({ url: "https://push.example.com", getToken: async () => "token", topics: ["orders.eu"] });
const end: () => void = client.on("notification", ({ id, title, replaces }) => console.log(id, title?.length, replaces));
client.on("state", (state: State) => state.state === "waiting" && console.log(state.retryAt));
client.on("state", (state) => state.state === "live" && console.log(state.resume?.replayed?.toFixed()));
client.on("reset", ({ reason }) => console.log(reason));
client.on("error", ({ code, detail }) => console.log(code, detail));
client.on("read", (ids) => client.markRead(ids));
client.subscribe("orders.us", ["orders.uk"]);
for await (const notification of client) console.log((notification satisfies Notification).created_at);
const { notifications, unread, state } = useNotifications({
  getToken: () => "token",
  onReset: ({ reason }) => console.log(reason),
  onError: ({ code, detail }) => console.log(code, detail.length),
});
const status: string = state.state === "stopped" ? state.reason : state.state;
const count: number = notifications.length + unread;
const bell = document.createElement("notifier-bell");
bell.client = client;
bell.labels = { bell: "Nachrichten" };
const link: string | null = safeLink("/orders/1");
console.log(end, count, status, link);

// @ts-expect-error Nobody can connect without a token.
new NotifierClient({ url: "https://push.example.com" });
// @ts-expect-error There is no such event.
client.on("notify", () => {});
// @ts-expect-error A state says when it tries again only while it waits.
client.state.retryAt;
