// What the page knows: conversations, their messages as far as they are here, how far everybody has read. Pure state: it asks
// nobody and shows nothing, so it is also tested in Node. Changed by chat.mjs, shown by list.mjs and log.mjs.
//
// Of each conversation one piece of its log is here, without holes: `messages`, from `low` up. It ends with the last message
// there is (`atEnd`), or somewhere before it, where somebody has jumped to; then what comes waits in `backlog`.

import { convOf, recipientOf } from "./natter.js";

const MOST_HERE = 12_000; // messages of a conversation; beyond that the oldest go, and come back by scrolling
const MOST_BACKLOG = 500;

export const textOf = (body) =>
  typeof body === "string" ? body : typeof body?.text === "string" ? body.text : body === undefined ? "" : JSON.stringify(body);

export class Model {
  convs = new Map();

  constructor(me) {
    this.me = me;
  }

  conv(id) {
    let conv = this.convs.get(id);
    if (!conv) {
      const to = recipientOf(this.me, id);
      const isRoom = to[0] === "#";
      conv = {
        id, to, isRoom, name: isRoom ? to : to.slice(1),
        messages: [], bySeq: new Map(), pending: [], backlog: [],
        low: Infinity, older: undefined, newer: undefined, more: true, atEnd: true, loaded: false,
        piece: 0, jumps: false, // the number of what is here: an answer for an earlier one is nothing any more
        head: 0, ts: 0, read: 0, unread: 0, mentions: 0, last: null,
        peerMarks: { delivered: 0, read: 0 }, typing: new Map(), online: undefined, lastSeen: undefined, watched: false,
        room: null, blocked: false,
      };
      this.convs.set(id, conv);
    }
    return conv;
  }

  convWith(to) {
    return this.conv(convOf(this.me, to));
  }

  /** A row as it comes, each once and in order. */
  live(frame) {
    const conv = this.conv(frame.conv);
    const { me } = this;
    const isNew = frame.seq > conv.head;
    conv.head = Math.max(conv.head, frame.seq);
    conv.ts = Math.max(conv.ts, frame.ts);
    if (frame.from === me) conv.read = Math.max(conv.read, frame.seq);
    conv.typing.delete(frame.from);
    if (frame.kind === undefined && frame.from !== me && frame.seq > conv.read && isNew) {
      conv.unread += 1;
      if (frame.mentions?.includes(me)) conv.mentions += 1;
    }
    if (!frame.re && (!conv.last || frame.seq > conv.last.seq)) conv.last = { ...frame };
    if (frame.from === me) conv.unread = conv.mentions = 0;
    if (conv.atEnd) this.#put(conv, frame);
    else {
      if (frame.from === me) conv.pending = conv.pending.filter(({ cid }) => cid !== frame.cid);
      if (conv.backlog.push(frame) > MOST_BACKLOG) conv.backlog.shift();
    }
    return conv;
  }

  #put(conv, frame) {
    if (conv.last?.seq === frame.re && conv.bySeq.get(frame.re) !== conv.last) change(conv.last, frame);
    if (frame.re) {
      const message = conv.bySeq.get(frame.re);
      if (message) change(message, frame);
      return;
    }
    // Others may choose the same cid: only one's own message is the one that was on its way.
    const pending = frame.from === this.me && conv.pending.find(({ cid }) => cid === frame.cid);
    conv.pending = conv.pending.filter((one) => one !== pending);
    if (conv.bySeq.has(frame.seq)) return;
    // A device that was away gets old rows while the end is here already: between the two there would be a hole.
    if (conv.loaded && conv.messages.length > 0 && frame.seq < conv.low) return;
    const { op, ...row } = frame;
    const message = Object.assign(pending || {}, row, { conv }); // the same object: what shows it stays, and keeps the focus
    conv.bySeq.set(frame.seq, message);
    let at = conv.messages.length;
    while (at > 0 && conv.messages[at - 1].seq > frame.seq) at -= 1;
    conv.messages.splice(at, 0, message);
    conv.low = Math.min(conv.low, frame.seq);
    if (conv.messages.length > MOST_HERE) this.#forgetOldest(conv, conv.messages.length - MOST_HERE);
  }

  #forgetOldest(conv, count) {
    for (const { seq } of conv.messages.splice(0, count)) conv.bySeq.delete(seq);
    Object.assign(conv, { low: conv.messages[0].seq, older: undefined, more: true });
  }

  /** An answer of `history`: `older` and `newer` continue what is here; `fresh` is the end of the log. */
  page(conv, { messages, more, next }, direction) {
    conv.loaded = true;
    if (direction === "fresh") this.#forgetBelow(conv, messages[0]?.seq ?? 0);
    this.#add(conv, messages);
    if (direction === "newer") Object.assign(conv, { newer: next });
    else Object.assign(conv, { more, older: next });
  }

  #forgetBelow(conv, seq) {
    for (const message of conv.messages) if (message.seq < seq) conv.bySeq.delete(message.seq);
    conv.messages = conv.messages.filter((message) => message.seq >= seq);
  }

  /** The same of what is around a message: it takes the place of what was here. */
  around(conv, { messages, next }) {
    this.reset(conv);
    conv.loaded = true;
    this.#add(conv, messages);
    Object.assign(conv, { more: messages[0].seq > 1, newer: next });
  }

  #add(conv, messages) {
    const rows = messages.filter(({ seq }) => !conv.bySeq.has(seq)).map((message) => ({ ...message, conv }));
    for (const row of rows) conv.bySeq.set(row.seq, row);
    conv.messages = [...conv.messages, ...rows].sort((one, other) => one.seq - other.seq);
    conv.low = conv.messages[0]?.seq ?? Infinity;
    const own = new Set(rows.filter(({ from }) => from === this.me).map(({ cid }) => cid));
    conv.pending = conv.pending.filter(({ cid }) => !own.has(cid));
  }

  /** What is here ends with the last message, and those that came meanwhile follow. */
  joinEnd(conv) {
    const { backlog } = conv;
    Object.assign(conv, { atEnd: true, backlog: [], newer: undefined });
    for (const frame of backlog) this.#put(conv, frame);
  }

  /** Nothing is here any more. `atEnd`: what comes is the end. */
  reset(conv, atEnd = conv.atEnd) {
    conv.piece += 1;
    conv.messages = [];
    conv.bySeq.clear();
    Object.assign(conv, { low: Infinity, older: undefined, newer: undefined, more: true, loaded: false, atEnd });
    if (atEnd) conv.backlog = [];
  }

  /** One of the list of conversations, or the `log` of a room. */
  listed(conv, { head, ts, read, unread, mentions = 0, last, peer }) {
    const isBehind = head < conv.head; // what came since was counted
    Object.assign(conv, { head: Math.max(conv.head, head), ts: Math.max(conv.ts, ts), read: Math.max(conv.read, read) });
    if (!isBehind) Object.assign(conv, conv.read >= head ? { unread: 0, mentions: 0 } : { unread, mentions });
    if (last && (!conv.last || last.seq >= conv.last.seq)) conv.last = { ...last };
    if (peer) this.marks(conv, peer);
  }

  marks(conv, { delivered = 0, read = 0 }) {
    const { peerMarks } = conv;
    conv.peerMarks = { delivered: Math.max(peerMarks.delivered, delivered, read), read: Math.max(peerMarks.read, read) };
  }

  /** The user has read up to here, on whatever device. False when what is left cannot be counted from what is here. */
  readTo(conv, seq) {
    conv.read = Math.max(conv.read, seq);
    if (conv.read >= conv.head) Object.assign(conv, { unread: 0, mentions: 0 });
    else if (conv.atEnd && conv.low <= conv.read + 1) {
      const left = conv.messages.filter((one) => one.seq > conv.read && one.kind === undefined && one.from !== this.me);
      Object.assign(conv, { unread: left.length, mentions: left.filter((one) => one.mentions?.includes(this.me)).length });
    } else return false;
    return true;
  }

  /** A message that is on its way, from the outbox. */
  pend(item) {
    const conv = this.convWith(item.to);
    if (conv.pending.some(({ cid }) => cid === item.cid)) return conv;
    const { cid, body, reply_to, mentions, at } = item;
    conv.pending.push({ conv, seq: Infinity, from: this.me, ts: at ?? Date.now(), cid, body, reply_to, mentions });
    return conv;
  }

  /** It is durable. */
  settle(frame, { conv: id, seq, ts }) {
    const conv = this.conv(id);
    const { cid, body, reply_to, mentions } = frame;
    if (frame.op === "send") this.live({ conv: id, seq, from: this.me, ts, cid, body, reply_to, mentions });
    return conv;
  }

  /** It was refused for good. */
  fail(frame, why) {
    const conv = frame.to ? this.convWith(frame.to) : this.conv(frame.conv);
    const message = conv.pending.find(({ cid }) => cid === frame.cid);
    if (message) message.failed = why;
    return conv;
  }

  discard(conv, cid) {
    conv.pending = conv.pending.filter((one) => one.cid !== cid);
  }

  /** Those of the list, the latest first. */
  list(current) {
    const shown = (conv) => conv === current || conv.ts > 0 || conv.pending.length > 0 || conv.room;
    const when = (conv) => Math.max(conv.ts, conv.pending.at(-1)?.ts ?? 0);
    return [...this.convs.values()].filter(shown).sort((one, other) => when(other) - when(one));
  }
}

/** What an edit, a deletion or a reaction makes of its message. The same one may come again. */
function change(message, { kind, from, ts, body }) {
  message.changes = (message.changes ?? 0) + 1;
  if (message.deleted) return;
  if (kind === "edit" && ts >= (message.edited ?? 0)) Object.assign(message, { edited: ts, body });
  if (kind === "delete") Object.assign(message, { deleted: from, body: undefined, reactions: [] });
  if (kind !== "reaction") return;
  const all = (message.reactions = [...(message.reactions ?? [])]);
  let at = all.findIndex(({ reaction }) => reaction === body.reaction);
  if (at < 0) at = all.push({ reaction: body.reaction, count: 0, who: [] }) - 1;
  const { who = [], count } = all[at];
  if (body.set === who.includes(from)) return;
  all[at] = {
    reaction: body.reaction,
    count: count + (body.set ? 1 : -1),
    who: body.set ? [...who, from] : who.filter((name) => name !== from),
  };
  message.reactions = all.filter((one) => one.count > 0);
}
