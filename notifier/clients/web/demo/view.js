/* What is seen of one user on the demo page. Whatever came from elsewhere is shown as text, never as markup. */

import { safeLink } from "/client/v1/notifier.js";

/** Makes an element. Strings become text in it. */
export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export class View {
  // Imported, and not cloned, so that the bell in it is one from the beginning.
  element = document.importNode(document.getElementById("pane").content, true).firstElementChild;
  bell = this.element.querySelector("notifier-bell");

  constructor({ user, tenant, roles }) {
    this.element.dataset.user = user;
    this.element.setAttribute("aria-label", user);
    this.say({ user, tenant: tenant || "default", roles: roles.join(", ") || "–" });
  }

  /** Writes texts down, by the names of their fields; one that is as it was is not read out again. */
  say(texts) {
    for (const [name, text] of Object.entries(texts)) {
      const field = this.#field(name);
      if (field.textContent !== text) field.textContent = text;
    }
  }

  button(action) {
    return this.element.querySelector(`[data-action="${action}"]`);
  }

  /** Shows a state and what it says, and the buttons that can be used in it. */
  become(state, text, { isCut, isSignedOut }) {
    this.element.querySelector(".state").dataset.state = state;
    this.say({ state: text });
    for (const action of ["cut", "reset", "sign-out"]) this.button(action).hidden = isSignedOut;
    for (const action of ["sign-in", "remove"]) this.button(action).hidden = !isSignedOut;
    this.button("cut").textContent = isCut ? "Restore" : "Cut";
  }

  /** Brings the list in line with what is to be shown. New ones are always in front; the others stay. */
  list(notifications) {
    const list = this.element.querySelector(".notifications");
    const ids = new Set(notifications.map(({ id }) => id));
    for (const item of [...list.children]) if (!ids.has(item.dataset.id)) item.remove();
    list.prepend(...notifications.slice(0, notifications.length - list.children.length).map(card));
    list.hidden = notifications.length === 0;
    this.#field("nothing").hidden = notifications.length > 0;
  }

  topics(topics, onLeave) {
    const chips = topics.map((topic) => {
      const leave = make("button", { type: "button", title: `Leave ${topic}`, ariaLabel: `Leave ${topic}` }, "×");
      leave.addEventListener("click", () => onLeave(topic));
      return make("li", {}, topic, " ", leave);
    });
    this.#field("topics").replaceChildren(...chips);
  }

  #field(name) {
    return this.element.querySelector(`[data-field="${name}"]`);
  }
}

function card({ id, type, title, body, link, data, created_at: createdAt, topics = [], isReplayed }) {
  const created = new Date(createdAt);
  const time = { dateTime: createdAt, title: created.toLocaleString() };
  const item = make("li", {}, make("h3", {}, title ?? type));
  item.dataset.id = id;
  item.append(make("time", time, created.toLocaleTimeString()));
  if (body !== undefined) item.append(make("p", {}, body));
  if (link !== undefined) item.append(make("p", {}, anchor(link)));
  if (data !== undefined) item.append(make("pre", { tabIndex: 0 }, JSON.stringify(data, null, 2)));
  const footer = make("p", { className: "hint" }, [type, ...topics].join(" · "));
  if (isReplayed) footer.append(" ", make("span", { className: "badge" }, "replayed"));
  item.append(footer);
  return item;
}

function anchor(link) {
  const href = safeLink(link);
  return href ? make("a", { href, target: "_blank", rel: "noopener noreferrer" }, link) : link;
}
