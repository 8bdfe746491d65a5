// The messages of the open conversation. However many there are, only those around the place that is looked at are elements:
// `MOST` of them, which move along when somebody scrolls. Called by chat.mjs.

import { $, element, soon } from "./dom.mjs";
import { isJoined, itemOf, showMessage, showTick } from "./message.mjs";
import { dayOf, dayWords } from "./text.mjs";

const MOST = 90;
const STEP = 30;
const NEAR = 700; // pixels from an end at which the next ones come in
const AT_END = 60; // pixels from the end that still count as there

export class Log {
  #me;
  #on;
  #conv = null;
  #start = 0; // of what is shown, in `messages`
  #end = 0;
  #sticks = true; // the end is looked at, and stays so
  #divider = Infinity; // the seq of the first unread message when the conversation was opened
  #focused = null; // the message that the keyboard is at

  /** `on`: older, newer, seen, jump, react, again, discard, touched. */
  constructor(me, on) {
    this.#me = me;
    this.#on = on;
    this.scroller = $("log");
    this.list = $("messages");
    this.render = soon(() => this.#render());
    this.scroller.addEventListener("scroll", soon(() => this.#onScroll()), { passive: true });
    this.list.addEventListener("keydown", (event) => this.#onKey(event));
    this.list.addEventListener("focusin", (event) => this.#touch(event));
    this.list.addEventListener("pointerover", (event) => event.pointerType === "mouse" && this.#touch(event));
    this.list.addEventListener("click", (event) => this.#touch(event));
    // A page that gets another size keeps the end in sight.
    new ResizeObserver(() => this.#sticks && this.#toEnd()).observe(this.scroller);
  }

  get conv() {
    return this.#conv;
  }

  get isAtEnd() {
    return this.#sticks;
  }

  /** Shows a conversation: at its end, or where the unread ones begin. */
  open(conv, firstUnread = Infinity) {
    this.#conv = conv;
    this.#divider = firstUnread;
    this.#focused = null;
    this.list.replaceChildren();
    // Not by way of the end: what is in sight there counts as read.
    if (firstUnread < Infinity && this.show(firstUnread, "start")) return;
    this.toEnd();
    this.#render();
  }

  markUnread(seq) {
    this.#divider = seq;
    this.render();
  }

  /** The end of what is here. */
  toEnd() {
    this.#end = this.#conv.messages.length;
    this.#start = Math.max(0, this.#end - MOST);
    this.#sticks = this.#conv.atEnd;
    this.render();
  }

  /** Puts the message at `seq`, or the first one after it, into sight. False when it is not here. */
  show(seq, place = "center") {
    const { messages } = this.#conv;
    const at = messages.findIndex((message) => message.seq >= seq);
    if (at < 0) return false;
    this.#start = Math.max(0, at - MOST / 2);
    this.#end = Math.min(messages.length, this.#start + MOST);
    this.#sticks = false;
    this.#render();
    const item = itemOf(messages[at]);
    const above = item.offsetTop - (place === "start" ? 96 : (this.scroller.clientHeight - item.offsetHeight) / 2);
    this.scroller.scrollTop = above;
    this.#sticks = this.#isNearEnd() && this.#showsAll && this.#conv.atEnd;
    return true;
  }

  /** Shows it, and shows that it is meant. */
  point(seq) {
    if (!this.show(seq)) return false;
    const item = itemOf(this.#conv.bySeq.get(seq) ?? {});
    if (item) {
      item.classList.remove("pointed");
      void item.offsetWidth; // the animation begins anew
      item.classList.add("pointed");
      this.#focus(item);
    }
    return true;
  }

  ticks() {
    for (const { message } of this.list.children) if (message) showTick(message, this.#me);
  }

  get #showsAll() {
    return this.#end === this.#conv.messages.length;
  }

  #isNearEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < AT_END;
  }

  #toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  /** Older ones came in: what is shown stays what it was. */
  grewAbove(count) {
    this.#start += count;
    this.#end += count;
    this.#move(-STEP); // at once: with nothing above, there is no room to hold a place
    this.#onScroll();
  }

  #render() {
    const conv = this.#conv;
    if (!conv) return;
    const count = conv.messages.length;
    if (this.#sticks || this.#end > count) {
      this.#end = count;
      this.#start = Math.max(0, count - MOST);
    }
    const anchor = this.#sticks ? null : this.#anchor();
    const wanted = this.#items();
    let at = this.list.firstChild;
    for (const item of wanted) {
      if (item === at) at = at.nextSibling;
      else this.list.insertBefore(item, at);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
    $("older").hidden = !(conv.loaded && conv.more && this.#start === 0);
    this.ticks();
    if (this.#sticks) this.#toEnd();
    else if (anchor?.item.isConnected) this.scroller.scrollTop += anchor.item.getBoundingClientRect().top - anchor.top;
    $("latest").hidden = this.#sticks && conv.atEnd;
    this.#seen();
  }

  /** The first message in sight, to be held in its place. */
  #anchor() {
    const top = this.scroller.getBoundingClientRect().top;
    for (const item of this.list.children) {
      const place = item.getBoundingClientRect();
      if (place.bottom > top && item.message) return { item, top: place.top };
    }
    return null;
  }

  #items() {
    const conv = this.#conv;
    const shown = conv.messages.slice(this.#start, this.#end);
    if (conv.atEnd && this.#showsAll) shown.push(...conv.pending);
    const items = [];
    let before;
    let isRead = true; // so far
    for (const message of shown) {
      if (before === undefined || dayOf(before.ts) !== dayOf(message.ts)) {
        items.push(this.#mark(message, "day", dayWords(message.ts)));
        before = undefined;
      }
      if (isRead && message.seq >= this.#divider && message.seq < Infinity) {
        isRead = false;
        // Where what is shown begins behind the first unread one, the line is not in it.
        const from = shown[0] === message ? conv.messages[this.#start - 1] : undefined;
        if (!from || from.seq < this.#divider) items.push(this.#mark(message, "unread", "New messages"));
        before = undefined;
      }
      const item = showMessage(message, this.#me, this.#on);
      item.classList.toggle("joined", isJoined(message, before));
      items.push(item);
      before = message;
    }
    return items;
  }

  #marks = new Map();

  /** A line between messages, the same element as long as it says the same before the same message. */
  #mark(message, kind, words) {
    const key = `${kind} ${message.conv.id} ${message.seq} ${words}`;
    if (this.#marks.size > 200) this.#marks.clear();
    if (!this.#marks.has(key)) this.#marks.set(key, element("li", { className: kind }, element("span", {}, words)));
    return this.#marks.get(key);
  }

  #onScroll() {
    const conv = this.#conv;
    if (!conv) return;
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const below = scrollHeight - scrollTop - clientHeight;
    this.#sticks = below < AT_END && this.#showsAll && conv.atEnd;
    if (scrollTop < NEAR && this.#start > 0) return this.#move(-STEP);
    if (below < NEAR && !this.#showsAll) return this.#move(STEP);
    if (scrollTop < NEAR && conv.loaded && conv.more) this.#on.older(conv);
    if (below < NEAR && !conv.atEnd) this.#on.newer(conv);
    $("latest").hidden = this.#sticks;
    this.#seen();
  }

  #move(by) {
    const count = this.#conv.messages.length;
    this.#start = Math.max(0, Math.min(this.#start + by, count - MOST));
    this.#end = Math.min(count, this.#start + MOST);
    this.#render();
  }

  /** Tells how far a person can have read: the last message that is in sight. */
  #seen() {
    const conv = this.#conv;
    if (this.#sticks) return this.#on.seen(conv, conv.head);
    const bottom = this.scroller.getBoundingClientRect().bottom;
    for (let item = this.list.lastElementChild; item; item = item.previousElementSibling) {
      if (item.message && item.message.seq < Infinity && item.getBoundingClientRect().bottom <= bottom + 8) {
        return this.#on.seen(conv, item.message.seq);
      }
    }
  }

  #touch({ target }) {
    const item = target.closest?.("li");
    if (item?.message && item.message.kind !== "event") this.#on.touched(item);
  }

  #focus(item) {
    if (this.#focused?.isConnected) this.#focused.tabIndex = -1;
    this.#focused = item;
    item.tabIndex = 0;
    item.focus({ preventScroll: true });
  }

  /** Up and down go from message to message. */
  #onKey(event) {
    const item = event.target.closest("li");
    if (event.target !== item || !["ArrowUp", "ArrowDown"].includes(event.key)) return;
    event.preventDefault();
    this.step(item, event.key);
  }

  /** From `item` to its neighbour; without one, the last message. */
  step(item, key) {
    const beside = key === "ArrowUp" ? "previousElementSibling" : "nextElementSibling";
    let next = item ? item[beside] : this.list.lastElementChild;
    while (next && !(next.message && next.message.kind !== "event")) next = next[item ? beside : "previousElementSibling"];
    if (!next) return;
    this.#focus(next);
    next.scrollIntoView({ block: "nearest" });
  }
}
