// The list of conversations, and the count in the title. Called by chat.mjs.

import { $, avatar, element, soon } from "./dom.mjs";
import { textOf } from "./model.mjs";
import { eventWords, whenWords } from "./text.mjs";

function previewOf(conv, me) {
  const pending = conv.pending.at(-1);
  if (pending) return `${pending.failed ? "Not sent: " : "Sending: "}${textOf(pending.body)}`;
  const typing = typingWords(conv);
  if (typing) return typing;
  if (conv.room?.invited && !conv.room.role) return "You are invited";
  const { last } = conv;
  if (!last) return conv.room?.topic ?? "";
  if (last.kind === "event") return eventWords(last);
  const who = last.from === me ? "You: " : conv.isRoom ? `${last.from}: ` : "";
  if (last.deleted) return `${who}deleted a message`;
  return last.expired ? `${who}a message that has expired` : who + textOf(last.body);
}

/** Who is typing, as long as that is fresh. */
export function typingWords(conv, now = Date.now()) {
  const names = [...conv.typing].filter(([, until]) => until > now).map(([name]) => name);
  if (names.length === 0) return "";
  if (names.length === 1) return `${names[0]} is typing …`;
  return names.length === 2 ? `${names[0]} and ${names[1]} are typing …` : "several people are typing …";
}

export class List {
  #model;
  #rows = new Map();
  #current = null;
  #filter = "";
  #open;

  /** `open` is called with the recipient of the conversation that somebody chooses. */
  constructor(model, open) {
    this.#model = model;
    this.#open = open;
    this.show = soon(() => this.#show());
    $("conversations").addEventListener("keydown", (event) => this.#onKey(event));
  }

  set current(conv) {
    this.#current = conv;
    this.show();
  }

  set filter(text) {
    this.#filter = text.toLowerCase();
    this.show();
  }

  #show() {
    const all = this.#model.list(this.#current);
    const shown = all.filter((conv) => conv.name.toLowerCase().includes(this.#filter));
    const rows = shown.map((conv) => this.#row(conv));
    const list = $("conversations");
    // Only when the order has changed: a button that is put back loses the keyboard's focus.
    if (rows.length !== list.children.length || rows.some((row, i) => row !== list.children[i])) {
      const focused = document.activeElement;
      list.replaceChildren(...rows);
      if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
    }
    $("list-empty").hidden = rows.length > 0;
    $("list-empty").textContent = this.#filter ? "Nothing in the list. Press Enter to write to that name." : "No conversations yet.";
    const unread = all.reduce((sum, conv) => sum + conv.unread, 0);
    document.title = unread > 0 ? `(${unread}) natter` : "natter";
  }

  #row(conv) {
    let row = this.#rows.get(conv);
    if (!row) {
      const face = element("span", { className: "face" }, avatar(conv.name), element("span", { className: "dot" }));
      const top = element("span", { className: "top" }, element("span", { className: "name" }, conv.name), element("span", { className: "when" }));
      const bottom = element("span", { className: "bottom" },
        element("span", { className: "preview" }), element("span", { className: "at-badge", "aria-hidden": "true" }, "@"),
        element("span", { className: "badge", "aria-hidden": "true" }));
      // The signs in words.
      const said = element("span", { className: "said only-read" });
      const button = element("button", { type: "button" }, face, element("span", { className: "lines" }, top, bottom), said);
      button.addEventListener("click", () => this.#open(conv.to));
      row = element("li", {}, button);
      this.#rows.set(conv, row);
    }
    const button = row.firstChild;
    const set = (selector, text) => {
      const part = button.querySelector(selector);
      if (part.textContent !== text) part.textContent = text;
    };
    const preview = previewOf(conv, this.#model.me).slice(0, 120);
    set(".when", conv.ts > 0 ? whenWords(conv.ts) : "");
    set(".preview", preview);
    set(".badge", conv.unread > 0 ? (conv.unread > 99 ? "99+" : String(conv.unread)) : "");
    button.querySelector(".at-badge").hidden = conv.mentions === 0;
    button.dataset.online = String(conv.online === true);
    button.dataset.unread = String(conv.unread > 0);
    button.setAttribute("aria-current", String(conv === this.#current));
    const words = [conv.online ? "online" : "", conv.unread > 0 ? `${conv.unread} unread` : "", conv.mentions > 0 ? "mentions you" : ""];
    set(".said", words.filter(Boolean).map((word) => `, ${word}`).join(""));
    return row;
  }

  /** Up and down go from conversation to conversation. */
  #onKey(event) {
    const beside = { ArrowUp: "previousElementSibling", ArrowDown: "nextElementSibling" }[event.key];
    const next = beside && event.target.closest("li")?.[beside];
    if (!next) return;
    event.preventDefault();
    next.firstChild.focus();
  }
}
