// Search in the messages of the open conversation that are here. Called by chat.mjs.

import { $ } from "./dom.mjs";
import { textOf } from "./model.mjs";

const SOON = 120; // ms after the last key

export class Search {
  #found = [];
  #at = -1;
  #conv = null;
  #point;
  #timer;

  /** `point(seq)` shows a message. */
  constructor(point) {
    this.#point = point;
    $("search-open").addEventListener("click", () => ($("search").hidden ? this.#show() : this.close()));
    $("search-close").addEventListener("click", () => this.close());
    $("search-up").addEventListener("click", () => this.#go(-1));
    $("search-down").addEventListener("click", () => this.#go(1));
    $("search-text").addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#find(), SOON);
    });
    $("search").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.close();
    });
    $("search").addEventListener("submit", (event) => {
      event.preventDefault();
      clearTimeout(this.#timer);
      if (this.#found.length === 0) this.#find();
      else this.#go(-1);
    });
  }

  open(conv) {
    this.#conv = conv;
    this.close();
  }

  close() {
    if ($("search").hidden) return;
    $("search").hidden = true;
    $("search-open").setAttribute("aria-expanded", "false");
    $("search-open").focus();
    this.#found = [];
  }

  #show() {
    if (!this.#conv) return;
    $("search").hidden = false;
    $("search-open").setAttribute("aria-expanded", "true");
    $("search-text").value = $("search-count").textContent = "";
    $("search-text").focus();
  }

  #find() {
    const words = $("search-text").value.trim().toLowerCase();
    const fits = (message) => !message.deleted && message.kind !== "event" && textOf(message.body).toLowerCase().includes(words);
    this.#found = words ? this.#conv.messages.filter(fits).map(({ seq }) => seq) : [];
    this.#at = this.#found.length;
    if (this.#found.length > 0) this.#go(-1);
    else $("search-count").textContent = words ? `Nothing in the ${this.#conv.messages.length} loaded messages` : "";
  }

  #go(by) {
    const count = this.#found.length;
    if (count === 0) return;
    this.#at = (this.#at + by + count) % count;
    const { activeElement } = document;
    this.#point(this.#found[this.#at]);
    activeElement.focus({ preventScroll: true }); // one goes on looking
    $("search-count").textContent = `${count - this.#at} of ${count}, in the ${this.#conv.messages.length} loaded messages`;
  }
}
