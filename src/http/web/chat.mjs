// Between the client and what is shown: what the node says goes into the model, what a person does goes to the client, and the
// views are told. Called by app.mjs.

import { Actions } from "./actions.mjs";
import { Composer } from "./composer.mjs";
import { $, avatar, element, notice } from "./dom.mjs";
import { List, typingWords } from "./list.mjs";
import { Listing } from "./listing.mjs";
import { Log } from "./log.mjs";
import { Model } from "./model.mjs";
import { convOf } from "./natter.js";
import { notifyOf } from "./notify.mjs";
import { isFarBehind, Pieces } from "./pieces.mjs";
import { Rooms } from "./rooms.mjs";
import { Search } from "./search.mjs";
import { keepPeer, recipientFor } from "./session.mjs";
import { seenWords } from "./text.mjs";

const TYPING = 4000; // ms that a "typing" is worth something

const firstUnreadOf = (conv) => (conv.unread > 0 ? conv.read + 1 : Infinity);

export class Chat {
  #client;
  #model;
  #pieces;
  #current = null;
  #asked = new Map(); // conv → the read mark that was said last

  constructor(client) {
    this.#client = client;
    const { user } = client;
    const model = (this.#model = new Model(user));
    const ask = (promise) => this.#try(promise);
    this.#pieces = new Pieces(client, model, ask);
    this.list = new List(model, (to) => this.open(to));
    this.listing = new Listing(client, model, { ask, changed: (conv) => this.#onListed(conv) });
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
    this.listing.rooms();
    const current = this.#current;
    if (current?.isRoom) this.rooms.refresh(current);
    // What is unread is known by the list: then the open conversation begins there.
    this.listing.again().then(() => current === this.#current && current && !current.loaded && this.#openAt(current, firstUnreadOf(current)));
  }

  #onMessage(frame) {
    const conv = this.#model.live(frame);
    this.#shown(conv);
    if (!conv.watched && !conv.isRoom) this.listing.watch();
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
    return conv.isRoom ? this.rooms.refresh(conv) : this.listing.again();
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

  /** The list was read, or one room of it. */
  #onListed(conv) {
    this.list.show();
    if (conv === this.#current) this.#showHead();
    else if (!conv && this.#current) this.log.ticks();
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

  async #try(promise) {
    try {
      return await promise;
    } catch (error) {
      if (error.code !== "closed" && this.#client.state !== "closed") notice(error.message);
      return undefined;
    }
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
    if (isFarBehind(conv) || conv.low < Infinity) {
      if (firstUnread < Infinity && (await this.#pieces.around(conv, firstUnread))) return this.log.open(conv, firstUnread);
    }
    await this.#load(conv, "fresh");
    if (conv === this.#current && firstUnread < Infinity) this.log.open(conv, firstUnread);
  }

  async #load(conv, direction) {
    const came = await this.#pieces.load(conv, direction);
    if (came === undefined || conv !== this.#current) return;
    $("log").ariaBusy = "true"; // a screen reader is not to read the past aloud
    if (direction === "older") this.log.grewAbove(came);
    else if (direction === "fresh") this.log.toEnd();
    else this.log.render();
    $("log").ariaBusy = "false";
  }

  /** Shows the message at `seq`, wherever it is. */
  async jump(seq) {
    const conv = this.#current;
    if (conv.bySeq.has(seq)) return this.log.point(seq);
    if ((await this.#pieces.around(conv, seq)) && conv === this.#current) {
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
