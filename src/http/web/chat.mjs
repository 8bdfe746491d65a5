// Between the client and what is shown: what the node says goes into the model, what a person does goes to the client, and the
// views are told. Called by app.mjs.

import { Actions } from "./actions.mjs";
import { Composer } from "./composer.mjs";
import { $, avatar, element, notice } from "./dom.mjs";
import { List, typingWords } from "./list.mjs";
import { Log } from "./log.mjs";
import { Model } from "./model.mjs";
import { convOf } from "./natter.js";
import { notifyOf } from "./notify.mjs";
import { Rooms } from "./rooms.mjs";
import { Search } from "./search.mjs";
import { keepPeer, recipientFor } from "./session.mjs";
import { seenWords } from "./text.mjs";

const PAGE = 50; // messages of one `history` answer
const JUMP_PAGE = 100;
const LIST_PAGE = 100; // conversations of one answer, the most that a node gives
const WATCHED = 100; // people in the list of whom the page shows whether they are there; the most of one request
const TYPING = 4000; // ms that a "typing" is worth something

const firstUnreadOf = (conv) => (conv.unread > 0 ? conv.read + 1 : Infinity);

export class Chat {
  #client;
  #model;
  #current = null;
  #loading = new Set(); // "conv direction"
  #asked = new Map(); // conv → the read mark that was said last
  #pages = 1; // of the list of conversations, as far as a person asked for it
  #next; // where the page after those begins

  constructor(client) {
    this.#client = client;
    const { user } = client;
    const model = (this.#model = new Model(user));
    this.list = new List(model, (to) => this.open(to));
    this.rooms = new Rooms(client, {
      open: (to) => this.open(to),
      changed: (conv) => this.#onRoom(conv),
      named: (conv) => this.composer.named(conv),
    });
    this.actions = new Actions(user, {
      react: (message, sign, set) => this.#react(message, sign, set),
      reply: (message) => this.composer.about(message),
      edit: (message) => this.composer.about(message, true),
      remove: (message) => this.#remove(message),
      readers: (message) => this.#readers(message),
      mayRemove: ({ conv }) => ["owner", "moderator"].includes(conv.room?.role),
    });
    this.log = new Log(user, {
      older: (conv) => this.#load(conv, "older"),
      newer: (conv) => this.#load(conv, "newer"),
      seen: (conv, seq) => this.#seen(conv, seq),
      jump: (seq) => this.jump(seq),
      react: (message, sign, set) => this.#react(message, sign, set),
      again: (message) => this.#again(message),
      discard: (message) => this.#discard(message),
      touched: (item) => this.actions.show(item),
    });
    this.composer = new Composer(client, {
      send: (conv, text, options) => this.#send(conv, text, options),
      edit: ({ conv, seq }, text) => this.#try(client.edit(conv.id, seq, { text })),
      names: (conv) => (conv.isRoom ? this.rooms.names(conv) : [conv.name]),
      step: (key) => this.log.step(null, key),
    });
    this.search = new Search((seq) => this.log.point(seq));
    this.#listen();
  }

  // ---- What the node says

  #listen() {
    const client = this.#client;
    client.on("message", (frame) => this.#onMessage(frame));
    client.on("receipt", (frame) => this.#onReceipt(frame));
    client.on("signal", (frame) => this.#onSignal(frame));
    client.on("presence", (frame) => this.#onPresence(frame));
    client.on("member", ({ conv }) => this.rooms.refresh(this.#model.conv(conv)));
    client.on("truncated", ({ conv: id }) => this.#onTruncated(this.#model.conv(id)));
    client.on("sent", (sent) => this.#shown(this.#model.settle(sent.frame, sent)));
    client.on("refused", ({ frame, error }) => error.code !== "discarded" && this.#shown(this.#model.fail(frame, error.message)));
    client.on("error", (error) => client.welcome && notice(error.message));
    client.on("outbox", (items) => {
      for (const item of items) if (item.op === "send" && recipientFor(item.to.replace(/^@/, ""))) this.#shown(this.#model.pend(item));
    });
    client.on("state", ({ welcome, state }) => {
      if (welcome && state === "catching up") this.#onWelcome();
    });
  }

  #onWelcome() {
    this.#asked.clear();
    for (const conv of this.#model.convs.values()) conv.watched = false;
    this.#listRooms();
    const current = this.#current;
    if (current?.isRoom) this.rooms.refresh(current);
    // What is unread is known by the list: then the open conversation begins there.
    this.#listAgain().then(() => current === this.#current && current && !current.loaded && this.#openAt(current, firstUnreadOf(current)));
  }

  #onMessage(frame) {
    const conv = this.#model.live(frame);
    this.#shown(conv);
    if (!conv.watched && !conv.isRoom) this.#watch();
    if (frame.kind === "event" && conv.isRoom) this.rooms.refresh(conv);
    notifyOf(conv, frame, this.#client.user, () => this.open(conv.to));
  }

  #onReceipt({ conv: id, user, delivered, read }) {
    const conv = this.#model.conv(id);
    if (user === conv.name) {
      this.#model.marks(conv, { delivered, read });
      if (conv === this.#current) this.log.ticks();
    }
    if (user !== this.#client.user || read === undefined || this.#model.readTo(conv, read)) return this.list.show();
    return conv.isRoom ? this.rooms.refresh(conv) : this.#listAgain();
  }

  #onSignal({ conv: id, from, type }) {
    const conv = type === "typing" && this.#model.convs.get(id);
    if (!conv || from === this.#client.user) return;
    if (conv.typing.size < 20) conv.typing.set(from, Date.now() + TYPING);
    this.#showTyping();
    setTimeout(() => this.#showTyping(), TYPING + 100);
  }

  #onPresence({ user, online, last_seen }) {
    const conv = this.#model.convs.get(convOf(this.#client.user, `@${user}`));
    if (!conv) return;
    Object.assign(conv, { online, lastSeen: last_seen });
    this.list.show();
    if (conv === this.#current) this.#showHead();
  }

  /** What is shown has no holes: all from here on comes by itself, the older part by scrolling. */
  #onTruncated(conv) {
    this.#model.reset(conv, true);
    if (conv === this.#current) this.#load(conv, "fresh");
  }

  #onRoom(conv) {
    if (conv.room?.log) this.#model.listed(conv, conv.room.log);
    this.list.show();
    if (conv === this.#current) this.#showHead();
  }

  /** Something of a conversation has changed. */
  #shown(conv) {
    this.list.show();
    if (conv !== this.#current) return;
    this.log.render();
    this.#showTyping();
  }

  #showTyping() {
    const conv = this.#current;
    $("typing").textContent = conv ? typingWords(conv) : "";
    this.list.show();
  }

  // ---- Lists

  async #try(promise) {
    try {
      return await promise;
    } catch (error) {
      if (error.code !== "closed" && this.#client.state !== "closed") notice(error.message);
      return undefined;
    }
  }

  /** One page of conversations, into the model. Says where the next one begins; false when there was no answer. */
  async #listPage(after) {
    const page = await this.#try(this.#client.conversations({ after, limit: LIST_PAGE }));
    if (!page) return false;
    for (const item of page.items) this.#model.listed(this.#model.conv(item.conv), item);
    this.list.show();
    if (this.#current) this.log.ticks();
    this.#watch();
    return page.next;
  }

  /** All pages that are shown: what was read on other devices meanwhile is told by the list alone. */
  async #listAgain() {
    let after;
    for (let page = 0; page < this.#pages; page += 1) {
      after = await this.#listPage(after);
      if (!after) break;
    }
    this.#listEnded(after);
  }

  async listMore() {
    const after = await this.#listPage(this.#next);
    if (after !== false) this.#pages += 1;
    this.#listEnded(after);
  }

  #listEnded(after) {
    if (after !== false) this.#next = after;
    $("more").hidden = !this.#next;
  }

  /** The rooms one is in or invited to. */
  async #listRooms() {
    let after;
    do {
      const page = await this.#try(this.#client.rooms({ after, limit: LIST_PAGE }));
      if (!page) return;
      for (const room of page.items) {
        const conv = this.#model.conv(room.conv);
        conv.room = room;
        conv.ts = Math.max(conv.ts, room.created);
        if (room.log) this.#model.listed(conv, room.log);
        if (conv === this.#current) this.#showHead();
      }
      after = page.next;
    } while (after);
    this.list.show();
  }

  /** Has the node tell who of the latest in the list comes and goes. */
  async #watch() {
    const people = [...this.#model.convs.values()].filter((conv) => conv.head > 0 && !conv.isRoom && conv.name !== this.#client.user);
    const room = WATCHED - people.filter((conv) => conv.watched).length;
    const next = people.filter((conv) => !conv.watched).sort((one, other) => other.ts - one.ts).slice(0, Math.max(0, room));
    if (next.length === 0) return;
    for (const conv of next) conv.watched = true;
    await this.#client.watch(next.map((conv) => conv.name)).catch(() => {}); // whom one may not watch has no dot
  }

  // ---- The open conversation

  /** Opens the conversation with `@user` or in `#room`. */
  async open(to) {
    const conv = this.#model.convWith(to);
    const isIn = conv.room?.role || conv.room?.invited;
    if (conv.isRoom && !isIn && this.#client.welcome) {
      if (!(await this.rooms.enter(to))) return;
      await this.rooms.refresh(conv);
    }
    keepPeer(to);
    this.#current = conv;
    this.list.current = conv;
    $("app").dataset.view = "chat";
    this.actions.hide();
    this.#showHead();
    this.composer.open(conv);
    this.search.open(conv);
    this.rooms.open(conv);
    const firstUnread = firstUnreadOf(conv);
    this.log.open(conv);
    if (this.#client.welcome && (!conv.loaded || conv.low > firstUnread)) await this.#openAt(conv, firstUnread);
    else if (firstUnread < Infinity) this.log.open(conv, firstUnread);
    if (conv === this.#current && !matchMedia("(pointer: coarse)").matches) this.composer.focus();
  }

  /** Loads what is around the first unread message, or the end. */
  async #openAt(conv, firstUnread) {
    if (conv.isRoom && conv.room && !conv.room.role) return;
    if (conv.unread > PAGE - 10 || conv.low < Infinity) {
      if (firstUnread < Infinity && (await this.#loadAround(conv, firstUnread))) return this.log.open(conv, firstUnread);
    }
    await this.#load(conv, "fresh");
    if (conv === this.#current && firstUnread < Infinity) this.log.open(conv, firstUnread);
  }

  async #load(conv, direction) {
    if (conv.isRoom && conv.room && !conv.room.role) return; // only members read
    const key = `${conv.id} ${direction}`;
    if (this.#loading.has(key) || conv.jumps || !this.#client.welcome) return;
    this.#loading.add(key);
    if (direction === "fresh" && !conv.atEnd) this.#model.reset(conv, true);
    const { piece } = conv;
    const top = conv.messages.at(-1)?.seq ?? 0;
    const from = { older: { before: conv.older ?? conv.low }, newer: { after: conv.newer ?? top }, fresh: {} }[direction];
    if (from.before === Infinity) delete from.before;
    const page = await this.#try(this.#client.history(conv.id, { ...from, limit: PAGE }));
    this.#loading.delete(key);
    if (!page || piece !== conv.piece) return;
    const had = conv.messages.length;
    $("log").ariaBusy = "true"; // a screen reader is not to read the past aloud
    this.#model.page(conv, page, direction);
    if (direction === "newer" && !page.more) this.#model.joinEnd(conv);
    if (conv === this.#current) {
      if (direction === "older") this.log.grewAbove(conv.messages.length - had);
      else if (direction === "fresh") this.log.toEnd();
      else this.log.render();
    }
    $("log").ariaBusy = "false";
  }

  /** What is here is left for what is around `seq`. */
  async #loadAround(conv, seq) {
    const wasAtEnd = conv.atEnd;
    // What comes from now on follows what is loaded; what is asked already is for what was here.
    Object.assign(conv, { atEnd: false, jumps: true, piece: conv.piece + 1 });
    const page = await this.#try(this.#client.history(conv.id, { around: seq, limit: JUMP_PAGE }));
    conv.jumps = false;
    if (!page || page.messages.length === 0) {
      if (wasAtEnd) this.#model.joinEnd(conv);
      return false;
    }
    this.#model.around(conv, page);
    if (!page.more) this.#model.joinEnd(conv);
    return true;
  }

  /** Shows the message at `seq`, wherever it is. */
  async jump(seq) {
    const conv = this.#current;
    if (conv.bySeq.has(seq)) return this.log.point(seq);
    if ((await this.#loadAround(conv, seq)) && conv === this.#current) {
      this.log.open(conv);
      this.log.point(seq);
    }
  }

  /** Goes to the end, wherever one is. */
  async latest() {
    const conv = this.#current;
    if (!conv.atEnd) {
      await this.#load(conv, "fresh");
    }
    this.log.toEnd();
  }

  #seen(conv, seq) {
    if (conv !== this.#current || document.visibilityState !== "visible" || !this.#client.welcome) return;
    if (!conv.loaded) return;
    const upTo = Math.min(seq, conv.head);
    if (upTo <= Math.max(conv.read, this.#asked.get(conv) ?? 0)) return;
    this.#asked.set(conv, upTo);
    this.#client.read(conv.id, upTo);
  }

  /** The page is looked at again. */
  lookedAt() {
    if (this.#current) this.log.render();
  }

  close() {
    $("app").dataset.view = "list";
  }

  #showHead() {
    const conv = this.#current;
    const { room } = conv;
    const isInvited = conv.isRoom && room !== null && !room.role;
    $("title").textContent = conv.name === this.#client.user ? `${conv.name} (you)` : conv.name;
    $("subtitle").textContent = conv.isRoom ? (room?.topic ?? (room ? `${room.members} members` : "")) : seenWords(conv);
    $("title-face").replaceChildren(avatar(conv.name));
    $("invited").hidden = !isInvited;
    $("invited-text").textContent = isInvited ? `You are invited to ${conv.name}.` : "";
    this.onDoors?.();
  }

  get current() {
    return this.#current;
  }

  /** Takes the invitation to the open room, or refuses it. */
  async answerInvitation(joins) {
    const conv = this.#current;
    const name = conv.name.slice(1);
    await this.#try(joins ? this.#client.joinRoom(name) : this.#client.leaveRoom(name));
    await this.rooms.refresh(conv);
    if (joins) this.open(conv.to);
    else this.close();
  }

  // ---- What a person does with messages

  async #send(conv, text, options) {
    if (!conv.atEnd) await this.latest();
    this.#client.send(conv.to, { text }, options).catch(() => {}); // `refused` shows why
    this.log.toEnd();
  }

  #react({ conv, seq }, sign, set) {
    this.#try(set ? this.#client.react(conv.id, seq, sign) : this.#client.unreact(conv.id, seq, sign));
  }

  #remove({ conv, seq }) {
    if (confirm("Delete this message for everybody?")) this.#try(this.#client.delete(conv.id, seq));
  }

  #again({ conv, cid, body, reply_to: replyTo, mentions }) {
    this.#model.discard(conv, cid);
    this.#client.send(conv.to, body, { replyTo, mentions }).catch(() => {});
    this.#shown(conv);
  }

  #discard({ conv, cid }) {
    this.#model.discard(conv, cid);
    this.#shown(conv);
  }

  async #readers({ conv, seq }) {
    const page = await this.#try(this.#client.readers(conv.name.slice(1), seq, { limit: 100 }));
    if (!page) return;
    const names = page.items.map(({ user }) => user).filter((user) => user !== this.#client.user);
    $("readers-list").replaceChildren(...names.map((name) => element("li", {}, avatar(name), name)));
    $("readers-none").hidden = names.length > 0;
    $("readers").showModal();
  }
}
