// Where messages are written: replies, edits, mentions, typing. Called by chat.mjs.

import { $, element, notice } from "./dom.mjs";
import { textOf } from "./model.mjs";
import { mentionsIn } from "./text.mjs";

const TYPING_EVERY = 3000;
const MOST_NAMES = 6;

export class Composer {
  #client;
  #on;
  #conv = null;
  #drafts = new Map(); // conv → what was written and not sent
  #about = null; // { message, edits }: what is replied to or edited
  #typedAt = 0;
  #picked = 0;

  /** `on`: send(conv, text, options), edit(message, text), names(conv), lastOwn(), step(key). */
  constructor(client, on) {
    this.#client = client;
    this.#on = on;
    this.text = $("text");
    $("compose").addEventListener("submit", (event) => (event.preventDefault(), this.#submit()));
    this.text.addEventListener("keydown", (event) => this.#onKey(event));
    this.text.addEventListener("input", () => this.#onInput());
    this.text.addEventListener("blur", () => setTimeout(() => this.#closeNames(), 150));
    $("about-close").addEventListener("click", () => this.about(null));
  }

  open(conv) {
    if (this.#conv && !this.#about?.edits) this.#drafts.set(this.#conv, this.text.value);
    this.#conv = conv;
    this.about(null);
    this.text.value = this.#drafts.get(conv) ?? "";
    this.text.placeholder = `Message ${conv.name}`;
    this.#typedAt = 0;
    this.#closeNames();
  }

  focus() {
    this.text.focus();
  }

  /** Replies to a message, or edits it; `null`: neither. */
  about(message, edits = false) {
    if (this.#about?.edits || edits) this.text.value = edits ? textOf(message.body) : "";
    this.#about = message && { message, edits };
    $("about").hidden = !message;
    if (!message) return;
    $("about-title").textContent = edits ? "Editing your message" : `Replying to ${message.from === this.#client.user ? "yourself" : message.from}`;
    $("about-text").textContent = textOf(message.body).slice(0, 160);
    this.focus();
    this.text.setSelectionRange(this.text.value.length, this.text.value.length);
  }

  #submit() {
    const text = this.text.value.toWellFormed();
    if (!this.#conv || $("writing").disabled || !text.trim()) return; // a script can still submit it
    const limit = this.#client.welcome?.limits.body ?? 65_536;
    const size = new TextEncoder().encode(JSON.stringify({ text })).length;
    if (size > limit) return notice(`The message is too long: ${size} bytes, the limit is ${limit}.`);
    const about = this.#about;
    if (about?.edits) this.#on.edit(about.message, text);
    else {
      const mentions = mentionsIn(text, this.#on.names(this.#conv));
      this.#on.send(this.#conv, text, { mentions: mentions.length > 0 ? mentions : undefined, replyTo: about?.message.seq });
    }
    this.about(null);
    this.text.value = "";
    this.#drafts.delete(this.#conv);
    this.#typedAt = 0;
    this.#closeNames();
    notice("");
  }

  #onKey(event) {
    if (event.isComposing) return;
    const names = !$("names").hidden;
    const { key } = event;
    if (names && (key === "ArrowUp" || key === "ArrowDown")) this.#pick(key === "ArrowUp" ? -1 : 1);
    else if (names && (key === "Enter" || key === "Tab")) this.#complete($("names").children[this.#picked].textContent);
    else if (names && key === "Escape") this.#closeNames();
    else if (key === "Enter" && !event.shiftKey) $("compose").requestSubmit();
    else if (key === "Escape" && this.#about) this.about(null);
    else if (key === "ArrowUp" && this.text.value === "") this.#on.step("ArrowUp");
    else return;
    event.preventDefault();
  }

  #onInput() {
    this.#offerNames();
    const { to } = this.#conv ?? {};
    if (!this.#client.welcome || !to || to === `@${this.#client.user}` || Date.now() - this.#typedAt < TYPING_EVERY) return;
    this.#typedAt = Date.now();
    this.#client.signal(to, "typing");
  }

  // ---- Names after an @

  /** Others are in the room now, perhaps the one whose name is being written. */
  named(conv) {
    if (conv === this.#conv && document.activeElement === this.text) this.#offerNames();
  }

  #typed() {
    return /(^|\s)@([A-Za-z0-9_-]*)$/.exec(this.text.value.slice(0, this.text.selectionStart))?.[2];
  }

  #offerNames() {
    const begin = this.#typed()?.toLowerCase();
    const all = begin === undefined ? [] : this.#on.names(this.#conv);
    const fitting = all.filter((name) => name.toLowerCase().startsWith(begin)).slice(0, MOST_NAMES);
    if (fitting.length === 0) return this.#closeNames();
    this.#picked = 0;
    $("names").replaceChildren(...fitting.map((name, i) => {
      const option = element("li", { id: `name-${i}`, role: "option", "aria-selected": String(i === 0) }, name);
      option.addEventListener("pointerdown", (event) => (event.preventDefault(), this.#complete(name)));
      return option;
    }));
    $("names").hidden = false;
    this.text.setAttribute("aria-activedescendant", "name-0");
  }

  #closeNames() {
    $("names").hidden = true;
    this.text.removeAttribute("aria-activedescendant");
  }

  #pick(by) {
    const options = [...$("names").children];
    this.#picked = (this.#picked + by + options.length) % options.length;
    options.forEach((option, i) => option.setAttribute("aria-selected", String(i === this.#picked)));
    this.text.setAttribute("aria-activedescendant", `name-${this.#picked}`);
  }

  #complete(name) {
    const at = this.text.selectionStart;
    this.text.setRangeText(`@${name} `, at - this.#typed().length - 1, at, "end");
    this.#closeNames();
  }
}
