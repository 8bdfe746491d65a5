// What can be done with a message: one row of buttons, which stands at the message that is pointed at or has the keyboard.
// Called by chat.mjs.

import { element, iconButton } from "./dom.mjs";

export const REACTIONS = ["👍", "❤️", "😂", "🎉", "😮", "🙏"];

export class Actions {
  #bar = element("div", { className: "actions", role: "toolbar", "aria-label": "Message actions" });
  #picker = element("div", { className: "picker", role: "group", "aria-label": "Reactions" });
  #item = null;
  #on;
  #me;

  /** `on`: react, reply, edit, remove, readers, mayRemove. */
  constructor(me, on) {
    this.#me = me;
    this.#on = on;
    this.#bar.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("pointerdown", ({ target }) => this.#item && !this.#item.contains(target) && this.hide());
  }

  /** Puts the buttons at a message, if there is something to do with it. */
  show(item) {
    const { message } = item;
    if (this.#item === item && this.#bar.isConnected) return;
    if (this.#bar.contains(document.activeElement)) return;
    this.hide();
    if (message.seq === Infinity || message.deleted || message.expired) return;
    this.#item = item;
    const own = message.from === this.#me;
    const buttons = [
      iconButton("smile", "React", () => this.#pick()),
      iconButton("reply", "Reply", () => this.#do("reply")),
    ];
    if (own) buttons.push(iconButton("edit", "Edit", () => this.#do("edit")));
    if (own && message.conv.isRoom) buttons.push(iconButton("eye", "Seen by", () => this.#do("readers")));
    if (own || this.#on.mayRemove(message)) buttons.push(iconButton("trash", "Delete", () => this.#do("remove")));
    this.#bar.replaceChildren(...buttons);
    item.querySelector(".stack").append(this.#bar);
  }

  hide() {
    this.#bar.remove();
    this.#picker.remove();
    this.#item = null;
  }

  #do(what) {
    const { message } = this.#item;
    this.hide();
    this.#on[what](message);
  }

  #pick() {
    if (this.#picker.isConnected) return this.#picker.remove();
    const { message } = this.#item;
    const has = (sign) => (message.reactions ?? []).some(({ reaction, who }) => reaction === sign && who?.includes(this.#me));
    this.#picker.replaceChildren(...REACTIONS.map((sign) => {
      const button = element("button", { type: "button", "aria-pressed": String(has(sign)), "aria-label": `React with ${sign}` }, sign);
      button.addEventListener("click", () => {
        const item = this.#item;
        this.hide();
        item.focus({ preventScroll: true });
        this.#on.react(message, sign, !has(sign));
      });
      return button;
    }));
    this.#bar.append(this.#picker);
    this.#picker.firstChild.focus();
  }

  #onKey(event) {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    const item = this.#item;
    if (this.#picker.isConnected) return void (this.#picker.remove(), this.#bar.firstChild.focus());
    item.focus({ preventScroll: true });
  }
}
