// The chat page: what the node says, sending, conversations, what a person does. The connection is link.mjs, what is
// shown is view.mjs; here is no state of theirs.

import { GONE, ask, connect, isName, me, prepare, randomId, say, welcome } from "./link.mjs";
import { $, canWrite, notice, place, showConversation, showList, showState, showTick, showTyping, showWait } from "./view.mjs";

const PAGE = 50; // messages of one `history` answer
const WATCHED = 100; // people in the list of whom the page shows whether they are there; of one request the most
const LIST_PAGE = 100; // conversations of one answer, the most that a node gives

// ---- What the node says

const on = {
  welcome(frame) {
    notice("");
    for (const conv of convs.values()) {
      conv.asked = 0; // what was on its way may not have arrived
      conv.watched = false; // a watch ends with its connection
    }
    $("who").textContent = `${frame.user} on ${frame.node}`;
    sendAll();
    listAgain();
    listRooms();
    if (current && !current.loaded) loadOlder(current);
  },
  message(frame) {
    const conv = conversation(frame.conv);
    take(conv, frame);
    // Also what was here before: the node asks for a second copy only when it missed the first acknowledgement.
    say({ op: "ack", conv: conv.id, seq: frame.seq });
    if (frame.from === conv.typing) conv.typingUntil = 0;
    if (conv === current) markRead(conv);
    if (!conv.watched && !isRoom(conv.to)) watch();
    showTyping(current);
    showList(convs, current, open);
  },
  receipt({ conv: id, user, delivered = 0, read = 0 }) {
    const conv = conversation(id);
    if (user === me) conv.read = Math.max(conv.read, read);
    if (user === conv.peer) marks(conv, { delivered, read });
    showList(convs, current, open);
  },
  signal(frame) {
    const conv = frame.type === "typing" && convs.get(frame.conv);
    if (!conv || (!isRoom(conv.to) && frame.from !== conv.peer)) return;
    conv.typing = frame.from;
    conv.typingUntil = Date.now() + 4000;
    showTyping(current);
    setTimeout(() => showTyping(current), 4100);
  },
  presence({ user, online }) {
    seen(user, online);
    showList(convs, current, open);
  },
  truncated({ conv: id, from }) {
    const conv = conversation(id);
    if (conv.messages.has(from - 1)) return;
    // What is shown has no holes: all from here on comes by itself, the older part through `history`.
    conv.messages.clear();
    Object.assign(conv, { low: Infinity, more: true });
    if (conv === current) showConversation(conv);
  },
  error(frame) {
    if (welcome) notice(frame.message);
  },
};

// ---- Sending: one at a time, so that a retry cannot overtake; kept until answered, also over a reload

let outbox = [];
let sending = false;

function keepOutbox() {
  sessionStorage.setItem(`natter.outbox.${me}`, JSON.stringify(outbox));
}

function compose(text) {
  if (!current || !canWrite()) return; // the composer is off then, but a script can still submit it
  const limit = welcome?.limits.body ?? 65_536;
  const item = { to: current.to, cid: randomId(), body: { text: text.toWellFormed() } };
  const size = new TextEncoder().encode(JSON.stringify(item.body)).length;
  if (size > limit) return notice(`the message is too long: ${size} bytes, the limit is ${limit}`);
  outbox.push(item);
  keepOutbox();
  pend(current, item);
  $("log").scrollTop = 0; // the end, as it is laid out
  $("text").value = "";
  typedAt = 0;
  notice("");
  sendAll();
}

async function sendAll() {
  if (sending) return;
  sending = true;
  while (welcome && outbox.length > 0) {
    const item = outbox[0];
    const answer = await ask({ op: "send", ...item });
    if (answer.op === "sent") take(conversation(answer.conv), { ...item, ...answer, from: me });
    else if (!answer.retry) giveUp(item, answer.message);
    else if (answer !== GONE) await new Promise((done) => setTimeout(done, answer.retry_after_ms ?? 1000));
    // A retry after `unavailable` or a lost connection bears the same cid: it cannot be stored twice.
  }
  sending = false;
}

function settle(cid) {
  if (!outbox.some((item) => item.cid === cid)) return;
  outbox = outbox.filter((item) => item.cid !== cid);
  keepOutbox();
}

function giveUp(item, why) {
  settle(item.cid);
  const message = conversation(idOf(item.to)).pending.get(item.cid);
  if (!message) return;
  message.failed = why;
  showTick(message);
}

// ---- Conversations

const convs = new Map();
let current = null;

/** The conversation behind `@user` or `#room`. */
const idOf = (to) => (isRoom(to) ? `room:${to.slice(1)}` : `dm:${[me, to.slice(1)].sort().join(":")}`);

const isRoom = (to) => to.startsWith("#");

function conversation(id) {
  let conv = convs.get(id);
  if (!conv) {
    const [kind, one, other] = id.split(":");
    const to = kind === "room" ? `#${one}` : `@${one === me ? other : one}`;
    conv = {
      id, to, peer: isRoom(to) ? to : to.slice(1), messages: new Map(), pending: new Map(), // by seq; by cid
      low: Infinity, top: 0, head: 0, ts: 0, // lowest and highest seq here; highest there
      read: 0, asked: 0, peerMarks: { delivered: 0, read: 0 }, // `asked`: a read mark on its way
      loaded: false, more: false, typing: "", typingUntil: 0,
      watched: false, online: false, // the other side of a direct conversation
    };
    convs.set(id, conv);
  }
  return conv;
}

/** A message that is in the log, from whatever frame. One that is here already changes nothing. */
function take(conv, { seq, kind, from, ts, cid, body, re, ...more }) {
  conv.head = Math.max(conv.head, seq);
  conv.ts = Math.max(conv.ts, ts);
  if (from === me) conv.read = Math.max(conv.read, seq);
  if (from === me && cid) settle(cid);
  if (re) {
    conv.top = Math.max(conv.top, seq);
    return apply(conv, { re, kind, from, ts, body });
  }
  if (conv.messages.has(seq)) return;
  // Others may choose the same cid: only one's own message is the one that was on its way.
  const message = (from === me && conv.pending.get(cid)) || { conv };
  if (from === me) conv.pending.delete(cid);
  const { reply_to, edited, deleted, expired, reactions } = more;
  Object.assign(message, { seq, kind, from, ts, cid, body, reply_to, edited, deleted, expired, reactions });
  conv.messages.set(seq, message);
  conv.low = Math.min(conv.low, seq);
  conv.top = Math.max(conv.top, seq);
  if (conv === current) place(message);
}

/** What an edit, a deletion or a reaction makes of its message, if that is here. The same one may come again. */
function apply(conv, { re, kind, from, ts, body }) {
  const message = conv.messages.get(re);
  if (!message || message.deleted) return;
  if (kind === "edit" && ts >= (message.edited ?? 0)) Object.assign(message, { edited: ts, body });
  if (kind === "delete") Object.assign(message, { deleted: from, body: null, reactions: [] });
  if (kind === "reaction") {
    const all = (message.reactions ??= []);
    let of = all.find(({ reaction }) => reaction === body.reaction);
    if (!of) all.push((of = { reaction: body.reaction, count: 0, who: [] }));
    const had = (of.who ??= []).includes(from);
    if (body.set === had) return;
    of.count += body.set ? 1 : -1;
    of.who = body.set ? [...of.who, from] : of.who.filter((name) => name !== from);
  }
  if (conv === current) place(message);
}

function pend(conv, { cid, body }) {
  const message = { conv, seq: Infinity, from: me, ts: Date.now(), cid, body };
  conv.pending.set(cid, message);
  if (conv === current) place(message);
}

function marks(conv, { delivered, read }) {
  const known = conv.peerMarks;
  conv.peerMarks = { delivered: Math.max(known.delivered, delivered), read: Math.max(known.read, read) };
  if (conv === current) for (const message of conv.messages.values()) showTick(message);
}

/** Raises the read mark to the last message, when a person can see it. */
function markRead(conv) {
  if (!welcome || document.visibilityState !== "visible" || conv.top <= Math.max(conv.read, conv.asked)) return;
  conv.asked = conv.top;
  say({ op: "read", conv: conv.id, seq: conv.top });
}

async function loadOlder(conv) {
  const before = Math.min(conv.low, conv.next ?? Infinity);
  const range = before === Infinity ? {} : { before };
  const answer = await ask({ op: "history", conv: conv.id, limit: PAGE, ...range });
  if (answer.op !== "history") return answer === GONE || notice(answer.message);
  conv.loaded = true;
  Object.assign(conv, { more: answer.more, next: answer.next });
  $("log").ariaBusy = "true"; // a screen reader is not to read the past aloud
  for (const message of answer.messages) take(conv, message);
  $("log").ariaBusy = "false";
  if (conv !== current) return;
  $("older").hidden = !conv.more;
  markRead(conv);
}

let pages = 1; // of the list of conversations, as far as a person asked for it
let next; // where the page after those begins; undefined when there is none

/** One page, into what is known. Says where the next one begins; false when there was no answer. */
async function listPage(after) {
  const answer = await ask({ op: "conversations", limit: LIST_PAGE, ...(after && { after }) });
  if (answer.op !== "conversations") {
    if (answer !== GONE) notice(answer.message);
    return false;
  }
  for (const { conv: id, head, ts, read, peer } of answer.items) {
    const conv = conversation(id);
    Object.assign(conv, { head: Math.max(conv.head, head), ts: Math.max(conv.ts, ts), read: Math.max(conv.read, read) });
    if (peer) marks(conv, peer);
  }
  showList(convs, current, open);
  watch();
  return answer.next;
}

function seen(user, online) {
  const conv = convs.get(idOf(`@${user}`));
  if (conv) conv.online = online === true;
}

/** Has the node tell who of the latest in the list comes and goes. What it refuses, it refuses for good. */
async function watch() {
  const those = [...convs.values()].filter((conv) => conv.head > 0 && !isRoom(conv.to) && conv.peer !== me && !conv.watched);
  const users = those.sort((one, other) => other.ts - one.ts).slice(0, WATCHED).map((conv) => conv.peer);
  if (users.length === 0 || [...convs.values()].filter((conv) => conv.watched).length + users.length > WATCHED) return;
  for (const user of users) conversation(idOf(`@${user}`)).watched = true;
  const answer = await ask({ op: "presence", users, watch: true });
  if (answer.op !== "presences") return;
  for (const { user, online } of answer.items) seen(user, online);
  showList(convs, current, open);
}

/** The rooms one is in, as far as one page goes; and those one is invited to, which show nothing yet. */
async function listRooms() {
  const answer = await ask({ op: "rooms", limit: LIST_PAGE });
  if (answer.op !== "rooms") return;
  for (const { conv: id, log } of answer.items) {
    const conv = conversation(id);
    const { head = 0, ts = Date.now(), read = 0 } = log ?? {};
    Object.assign(conv, { head: Math.max(conv.head, head), ts: Math.max(conv.ts, ts), read: Math.max(conv.read, read) });
  }
  showList(convs, current, open);
}

/** Enters a room; where there is none, makes it if the person wants that. */
async function enter(to) {
  const room = to.slice(1);
  let answer = await ask({ op: "join", room, cid: randomId() });
  if (answer.code === "no_such_room" && confirm(`There is no room ${to} that you may enter. Make it, open to everybody?`)) {
    answer = await ask({ op: "create", room, public: true, cid: randomId() });
  }
  if (answer.op === "changed") return true;
  if (answer !== GONE) notice(answer.message);
  return false;
}

/** After a connection: all pages that are shown, since what was read on other devices meanwhile is told by the list alone. */
async function listAgain() {
  let after;
  for (let page = 0; page < pages; page += 1) {
    after = await listPage(after);
    if (!after) break;
  }
  ended(after);
}

async function listMore() {
  const after = await listPage(next);
  if (after !== false) pages += 1;
  ended(after);
}

function ended(after) {
  if (after !== false) next = after;
  $("more").hidden = !next;
}

/** Whom one can write to. `null` and `undefined` are what a script writes into a link when it has no name. */
const isPeer = (name) => {
  const bare = isRoom(name ?? "") ? name.slice(1) : name;
  return isName(bare) && bare !== "null" && bare !== "undefined";
};

/** Opens the conversation with somebody, or `#room`, which is entered first. */
async function open(peer) {
  if (!isPeer(peer)) return notice(`nobody can be called ${JSON.stringify(peer)}: 1 to 64 letters, digits, _ and -`);
  if (isRoom(peer) && welcome && !(await enter(peer))) return;
  sessionStorage.setItem("natter.peer", peer);
  current = conversation(idOf(isRoom(peer) ? peer : `@${peer}`));
  showConversation(current);
  showList(convs, current, open);
  if (!current.loaded) loadOlder(current);
  markRead(current);
  $("text").focus();
}

// ---- What a person does, and the start

let typedAt = 0;

function listen() {
  const submit = (id, act) => $(id).addEventListener("submit", (event) => (event.preventDefault(), act()));
  submit("login", () => {
    sessionStorage.removeItem("natter.user");
    sessionStorage.setItem("natter.token", $("token").value.trim());
    location.reload();
  });
  submit("open", () => {
    open($("peer").value);
    $("peer").value = "";
  });
  submit("compose", () => $("text").value.trim() && compose($("text").value));
  $("text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    $("compose").requestSubmit();
  });
  $("text").addEventListener("input", () => {
    if (!welcome || !current || current.peer === me || Date.now() - typedAt < 3000) return;
    typedAt = Date.now();
    say({ op: "signal", to: current.to, type: "typing" });
  });
  $("older").addEventListener("click", () => loadOlder(current));
  $("more").addEventListener("click", listMore);
  $("logout").addEventListener("click", logOut);
  $("skip").addEventListener("click", () => $(current ? "text" : "peer").focus());
  $("now").addEventListener("click", connect);
  addEventListener("hashchange", () => location.reload()); // another link pasted into this tab
  document.addEventListener("visibilitychange", () => current && markRead(current));
}

/** Forgets the person on this tab. The device stays: its next login gets what it has missed, and no more. */
function logOut() {
  const unsent = `${outbox.length} messages are not sent yet and would be lost. Log out all the same?`;
  if (outbox.length > 0 && !confirm(unsent)) return;
  for (const name of ["token", "user", "peer", `outbox.${me}`]) sessionStorage.removeItem(`natter.${name}`);
  location.reload();
}

/** Takes token and peer from the link, out of the address bar: that ends in bookmarks and screenshots. */
function readLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  if (link.has("token")) sessionStorage.removeItem("natter.user");
  for (const name of ["token", "peer"]) {
    if (link.has(name)) sessionStorage.setItem(`natter.${name}`, link.get(name));
  }
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  return sessionStorage.getItem("natter.token");
}

async function start() {
  listen();
  const token = readLink();
  if (!token) return showState("no token");
  await prepare(token, on, showState);
  // Earlier pages could write to `null`: what they left unsent goes nowhere.
  outbox = JSON.parse(sessionStorage.getItem(`natter.outbox.${me}`) ?? "[]").filter(({ to }) => isPeer(to.replace(/^@/, "")));
  keepOutbox();
  for (const item of outbox) pend(conversation(idOf(item.to)), item);
  setInterval(showWait, 1000);
  connect();
  const peer = sessionStorage.getItem("natter.peer");
  if (isPeer(peer)) open(peer);
  else $("peer").focus();
}

start();
