/**
 * `<notifier-bell>`: a bell with the number of unread notifications, and the list of them.
 *
 * Give it a `client`. Colours are custom properties, parts are named, texts are `labels`. Notifications are text, never
 * markup; links lead over https or within this origin only.
 */

import { EMPTY, add, read } from "./inbox.js";
import { safeLink } from "./notifier.js";

const LABELS = { bell: "Notifications", unread: "unread", none: "Nothing new", list: "Notifications", offline: "Not connected" };
const STYLE = `
  :host { position: relative; display: inline-block; font: inherit; color: var(--notifier-text, CanvasText); }
  button { font: inherit; position: relative; padding: .5em; border: 0; border-radius: .5em; background: none; color: inherit; cursor: pointer; }
  button:focus-visible, a:focus-visible, [part~=list]:focus-visible { outline: 2px solid var(--notifier-accent, Highlight); }
  svg { inline-size: 1.5em; block-size: 1.5em; display: block; fill: currentColor; }
  [part~=count] { position: absolute; inset-block-start: 0; inset-inline-end: 0; min-inline-size: 1.4em; padding-inline: .3em; box-sizing: border-box;
    border-radius: 1em; font-size: .75em; line-height: 1.4em; text-align: center; background: var(--notifier-accent, #b3261e); color: var(--notifier-on-accent, #fff); }
  [part~=count]:empty, [hidden] { display: none; }
  [part~=panel] { position: absolute; z-index: 1; inset-block-start: 100%; inset-inline-end: 0; inline-size: min(22rem, 90vw); max-block-size: 70vh; overflow: auto;
    border: 1px solid var(--notifier-border, GrayText); border-radius: .5em; background: var(--notifier-background, Canvas); text-align: start; }
  ul { list-style: none; margin: 0; padding: 0; }
  li, p { margin: 0; padding: .75em 1em; }
  li + li { border-block-start: 1px solid var(--notifier-border, GrayText); }
  li p { padding: .25em 0 0; }
  time { font-size: .8em; opacity: .8; }
  a { color: inherit; }
  [part~=live] { position: absolute; inline-size: 1px; block-size: 1px; overflow: hidden; clip-path: inset(50%); }
`;
const BELL = "M12 22a2 2 0 0 0 2-2h-4a2 2 0 0 0 2 2Zm6-6v-5a6 6 0 0 0-5-5.9V4a1 1 0 1 0-2 0v1.1A6 6 0 0 0 6 11v5l-2 2v1h16v-1l-2-2Z";

/** Makes an element. Strings become text in it, never markup. */
function make(tag, part, attributes = {}, ...children) {
  const element = document.createElement(tag);
  if (part) element.setAttribute("part", part);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function bell() {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", BELL);
  svg.append(path);
  return svg;
}

export class NotifierBell extends HTMLElement {
  limit = 50;
  #labels = LABELS;
  #inbox = EMPTY;
  #client = null;
  #ends = [];
  #count = make("span", "count", { "aria-hidden": "true" });
  #button = make("button", "button", { type: "button", "aria-expanded": "false" }, bell(), this.#count);
  #list = make("ul", "list");
  #none = make("p", "none");
  #panel = make("div", "panel", { role: "region", hidden: "", tabindex: "-1" }, this.#none, this.#list);
  #live = make("div", "live", { role: "status" });

  constructor() {
    super();
    const sheet = new CSSStyleSheet(); // A strict policy lets no style element in.
    sheet.replaceSync(STYLE);
    const root = this.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    root.append(this.#button, this.#panel, this.#live);
    this.#button.addEventListener("click", () => this.toggle());
    this.addEventListener("keydown", ({ key }) => key === "Escape" && this.isOpen && this.toggle());
    this.#render();
    for (const name of ["client", "labels", "limit"]) this.#takeOver(name);
  }

  /** What a page has set before this module was loaded hides the property of the same name. */
  #takeOver(name) {
    if (!Object.hasOwn(this, name)) return;
    const value = this[name];
    delete this[name];
    this[name] = value;
  }

  /** The `NotifierClient` whose notifications are shown. */
  set client(client) {
    for (const end of this.#ends) end();
    this.#client = client;
    this.#inbox = EMPTY;
    this.#ends = [
      client?.on("notification", (notification) => this.#take(notification)),
      client?.on("state", (state) => this.#showState(state)),
      client?.on("read", (ids) => this.#forgetUnread(ids)),
    ].filter(Boolean);
    if (client) this.#showState(client.state);
    this.#render();
  }

  /** The texts: `bell`, `unread`, `list`, `none`, `offline`; those that are left out stay. */
  set labels(labels) {
    this.#labels = { ...this.#labels, ...labels };
    this.#render();
  }

  get isOpen() {
    return !this.#panel.hidden;
  }

  /** Opens or closes the list; what it shows is read then. */
  toggle() {
    this.#panel.hidden = this.isOpen;
    this.#button.setAttribute("aria-expanded", String(this.isOpen));
    if (this.isOpen) {
      this.#markRead();
      this.#panel.focus();
    } else {
      this.#button.focus();
    }
    this.#render();
  }

  #take(notification) {
    this.#inbox = add(this.#inbox, notification, this.limit);
    if (this.isOpen) this.#markRead();
    this.#live.textContent = notification.title ?? notification.body ?? notification.type;
    this.#render();
  }

  /** Here, and in the other tabs. */
  #markRead() {
    const { unread } = this.#inbox;
    this.#client?.markRead(unread);
    this.#forgetUnread(unread);
  }

  #forgetUnread(ids) {
    this.#inbox = read(this.#inbox, ids);
    this.#render();
  }

  #showState({ state }) {
    this.dataset.state = state;
    this.#render();
  }

  #render() {
    const { notifications, unread: { length: unread } } = this.#inbox;
    const labels = this.#labels;
    const isCutOff = ["waiting", "offline", "stopped"].includes(this.dataset.state);
    const said = [labels.bell, unread && `${unread} ${labels.unread}`, isCutOff && labels.offline].filter(Boolean);
    this.#button.setAttribute("aria-label", said.join(", "));
    this.#panel.setAttribute("aria-label", labels.list);
    this.#count.textContent = unread || "";
    this.#none.textContent = labels.none;
    this.#none.hidden = notifications.length > 0;
    this.#list.replaceChildren(...notifications.map((notification) => this.#item(notification)));
  }

  #item({ title, type, body, link, created_at: createdAt }) {
    const href = link === undefined ? null : safeLink(link);
    const name = make("strong", "title", {}, title ?? type);
    const time = make("time", "time", { datetime: createdAt }, new Date(createdAt).toLocaleTimeString(this.lang || undefined));
    const head = href ? make("a", "link", { href, rel: "noopener noreferrer" }, name) : name;
    return make("li", "item", {}, head, " ", time, ...(body === undefined ? [] : [make("p", "body", {}, body)]));
  }
}

if (!customElements.get("notifier-bell")) customElements.define("notifier-bell", NotifierBell);
