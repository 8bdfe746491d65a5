// Brings the list of conversations and rooms into the model, and has the node tell who of them comes and goes. Called by chat.mjs.

import { $ } from "./dom.mjs";

const PAGE = 100; // of one answer, the most that a node gives
const WATCHED = 100; // people in the list of whom the page shows whether they are there; the most of one request

export class Listing {
  #client;
  #model;
  #on;
  #pages = 1; // of conversations, as far as a person asked for it
  #next; // where the page after those begins

  /** `on`: ask (a promise; `undefined` when it failed), changed (the list, or one room in it). */
  constructor(client, model, on) {
    this.#client = client;
    this.#model = model;
    this.#on = on;
  }

  /** One page of conversations. Says where the next one begins; false when there was no answer. */
  async #page(after) {
    const page = await this.#on.ask(this.#client.conversations({ after, limit: PAGE }));
    if (!page) return false;
    for (const item of page.items) this.#model.listed(this.#model.conv(item.conv), item);
    this.#on.changed();
    this.watch();
    return page.next;
  }

  /** All pages that are shown: what was read on other devices meanwhile is told by the list alone. */
  async again() {
    let after;
    for (let page = 0; page < this.#pages; page += 1) {
      after = await this.#page(after);
      if (!after) break;
    }
    this.#ended(after);
  }

  /** One page more. */
  async more() {
    const after = await this.#page(this.#next);
    if (after !== false) this.#pages += 1;
    this.#ended(after);
  }

  #ended(after) {
    if (after !== false) this.#next = after;
    $("more").hidden = !this.#next;
  }

  /** The rooms one is in or invited to. */
  async rooms() {
    let after;
    do {
      const page = await this.#on.ask(this.#client.rooms({ after, limit: PAGE }));
      if (!page) return;
      for (const room of page.items) {
        const conv = this.#model.conv(room.conv);
        conv.room = room;
        conv.ts = Math.max(conv.ts, room.created);
        if (room.log) this.#model.listed(conv, room.log);
        this.#on.changed(conv);
      }
      after = page.next;
    } while (after);
  }

  /** Has the node tell who of the latest in the list comes and goes. */
  async watch() {
    const people = [...this.#model.convs.values()].filter((conv) => conv.head > 0 && !conv.isRoom && conv.name !== this.#client.user);
    const left = WATCHED - people.filter((conv) => conv.watched).length;
    const next = people.filter((conv) => !conv.watched).sort((one, other) => other.ts - one.ts).slice(0, Math.max(0, left));
    if (next.length === 0) return;
    for (const conv of next) conv.watched = true;
    await this.#client.watch(next.map((conv) => conv.name)).catch(() => {}); // whom one may not watch has no dot
  }
}
