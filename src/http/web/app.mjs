// The chat page: what the node says, sending, conversations, what is shown, what a person does. The connection is
// link.mjs; here is no state of it but what it tells.

import { GONE, ask, connect, isName, me, prepare, randomId, say, welcome } from "./link.mjs";

const $ = (id) => document.getElementById(id);
const PAGE = 50; // messages of one `history` answer

// ---- What the node says

const on = {
  welcome(frame) {
    notice("");
    for (const conv of convs.values()) conv.asked = 0; // what was on its way may not have arrived
    $("who").textContent = `${frame.user} on ${frame.node}`;
    sendAll();
    listConversations();
    if (current && !current.loaded) loadOlder(current);
  },
  message(frame) {
    const conv = conversation(frame.conv);
    take(conv, frame);
    // Also what was here before: the node asks for a second copy only when it missed the first acknowledgement.
    say({ op: "ack", conv: conv.id, seq: frame.seq });
    if (frame.from === conv.peer) conv.typingUntil = 0;
    if (conv === current) markRead(conv);
    showTyping();
    showList();
  },
  receipt({ conv: id, user, delivered = 0, read = 0 }) {
    const conv = conversation(id);
    if (user === me) conv.read = Math.max(conv.read, read);
    if (user === conv.peer) marks(conv, { delivered, read });
    showList();
  },
  signal(frame) {
    const conv = frame.type === "typing" && convs.get(frame.conv);
    if (!conv || frame.from !== conv.peer) return;
    conv.typingUntil = Date.now() + 4000;
    showTyping();
    setTimeout(showTyping, 4100);
  },
  truncated({ conv: id, from }) {
    const conv = conversation(id);
    if (conv.messages.has(from - 1)) return;
    // What is shown has no holes: all from here on comes by itself, the older part through `history`.
    conv.messages.clear();
    Object.assign(conv, { low: Infinity, more: true });
    if (conv === current) showConversation();
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
  const limit = welcome?.limits.body ?? 65_536;
  const item = { to: `@${current.peer}`, cid: randomId(), body: { text: text.toWellFormed() } };
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
    else if (answer !== GONE) await new Promise((done) => setTimeout(done, 1000));
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
  const message = conversation(idWith(item.to.slice(1))).pending.get(item.cid);
  if (!message) return;
  message.failed = why;
  showTick(message);
}

// ---- Conversations

const convs = new Map();
let current = null;

const idWith = (peer) => `dm:${[me, peer].sort().join(":")}`;

function conversation(id) {
  let conv = convs.get(id);
  if (!conv) {
    const [one, other] = id.split(":").slice(1);
    conv = {
      id, peer: one === me ? other : one, messages: new Map(), pending: new Map(), // by seq; by cid
      low: Infinity, top: 0, head: 0, ts: 0, // lowest and highest seq here; highest there
      read: 0, asked: 0, peerMarks: { delivered: 0, read: 0 }, // `asked`: a read mark on its way
      loaded: false, more: false, typingUntil: 0,
    };
    convs.set(id, conv);
  }
  return conv;
}

/** A message that is in the log, from whatever frame. One that is here already changes nothing. */
function take(conv, { seq, from, ts, cid, body }) {
  conv.head = Math.max(conv.head, seq);
  conv.ts = Math.max(conv.ts, ts);
  if (from === me) conv.read = Math.max(conv.read, seq);
  if (from === me && cid) settle(cid);
  if (conv.messages.has(seq)) return;
  // Others may choose the same cid: only one's own message is the one that was on its way.
  const message = (from === me && conv.pending.get(cid)) || { conv };
  if (from === me) conv.pending.delete(cid);
  Object.assign(message, { seq, from, ts, cid, body });
  conv.messages.set(seq, message);
  conv.low = Math.min(conv.low, seq);
  conv.top = Math.max(conv.top, seq);
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
  const range = conv.low === Infinity ? {} : { before: conv.low };
  const answer = await ask({ op: "history", conv: conv.id, limit: PAGE, ...range });
  if (answer.op !== "history") return answer === GONE || notice(answer.message);
  conv.loaded = true;
  conv.more = answer.more;
  $("log").ariaBusy = "true"; // a screen reader is not to read the past aloud
  for (const message of answer.messages) take(conv, message);
  $("log").ariaBusy = "false";
  if (conv !== current) return;
  $("older").hidden = !conv.more;
  markRead(conv);
}

async function listConversations() {
  const answer = await ask({ op: "conversations", limit: 100 });
  if (answer.op !== "conversations") return;
  for (const { conv: id, head, ts, read, peer } of answer.items) {
    const conv = conversation(id);
    Object.assign(conv, { head: Math.max(conv.head, head), ts: Math.max(conv.ts, ts), read: Math.max(conv.read, read) });
    if (peer) marks(conv, peer);
  }
  showList();
}

function open(peer) {
  sessionStorage.setItem("natter.peer", peer);
  current = conversation(idWith(peer));
  showConversation();
  showList();
  if (!current.loaded) loadOlder(current);
  markRead(current);
  $("text").focus();
}

// ---- What is shown

function notice(text) {
  $("notice").textContent = text;
}

let retryAt = null;

/** The states of link.mjs, and "no token". */
function show(state, { at = null, why, code } = {}) {
  const login = state === "no token" || code === 4100 || code === 4101;
  $("state").dataset.state = state;
  $("state").textContent = why ? `${state}: ${why}` : state;
  $("login").hidden = !login;
  $("now").hidden = login || (state !== "reconnecting" && state !== "closed");
  if (login) $("token").focus();
  retryAt = at;
  showWait();
}

function showWait() {
  $("wait").textContent = retryAt ? `in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s` : "";
}

const textOf = (body) => (typeof body === "string" ? body : typeof body?.text === "string" ? body.text : JSON.stringify(body));

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text; // never as HTML: others wrote it
  return made;
}

function showMessage(message) {
  const when = new Date(message.ts);
  const today = when.toDateString() === new Date().toDateString();
  const item = message.item ?? element("li", message.from === me ? "own" : "other");
  const time = element("time", "", when.toLocaleString([], { dateStyle: today ? undefined : "medium", timeStyle: "short" }));
  time.dateTime = when.toISOString();
  const meta = element("div", "meta");
  meta.append(element("span", "only-read", message.from), " ", time, " ", element("span", "tick"));
  item.replaceChildren(element("div", "text", textOf(message.body)), meta);
  message.item = item;
  item.message = message;
  showTick(message);
}

const TICKS = { sending: "…", sent: "✓", delivered: "✓✓", read: "✓✓" };

function showTick(message) {
  if (!message.item || message.from !== me) return;
  const { seq, failed, conv } = message;
  const reached = (mark) => seq <= conv.peerMarks[mark];
  const state = failed ? "failed" : seq === Infinity ? "sending" : reached("read") ? "read" : reached("delivered") ? "delivered" : "sent";
  if (message.item.dataset.tick === state) return;
  message.item.dataset.tick = state;
  const tick = element("span", "", failed ? `not sent: ${failed}` : TICKS[state]);
  tick.ariaHidden = String(!failed);
  const text = message.item.querySelector(".tick");
  text.replaceChildren(tick, element("span", "only-read", failed ? "" : state));
  text.title = state;
}

/** Puts a message into its place by seq; those on their way stand last, in the order they were written. */
function place(message) {
  message.item?.remove();
  delete message.item?.dataset.tick;
  showMessage(message);
  let before = $("messages").lastElementChild;
  while (before && before.message.seq > message.seq) before = before.previousElementSibling;
  if (before) before.after(message.item);
  else $("messages").prepend(message.item);
}

function showConversation() {
  $("chat").hidden = false;
  $("title").textContent = current.peer === me ? `${me} (yourself)` : current.peer;
  $("messages").replaceChildren();
  for (const message of [...current.messages.values(), ...current.pending.values()]) place(message);
  $("log").scrollTop = 0;
  $("older").hidden = !current.more;
  showTyping();
}

let listTimer;

/** Soon, and once for many messages. */
function showList() {
  listTimer ??= setTimeout(() => {
    listTimer = undefined;
    const recent = [...convs.values()].filter((conv) => conv.ts > 0 || conv === current).sort((one, other) => other.ts - one.ts);
    const rows = recent.map(showRow);
    // Only when the order has changed: a button that is put back loses the keyboard's focus.
    if (rows.some((row, i) => row !== $("conversations").children[i])) $("conversations").replaceChildren(...rows);
    const unread = recent.reduce((sum, conv) => sum + Math.max(0, conv.head - conv.read), 0);
    document.title = unread > 0 ? `(${unread}) natter` : "natter";
  }, 50);
}

function showRow(conv) {
  if (!conv.row) {
    conv.row = element("li", "");
    const button = element("button", "");
    button.type = "button";
    button.append(element("span", "name", conv.peer), element("span", "badge"));
    button.onclick = () => open(conv.peer);
    conv.row.append(button);
  }
  const unread = Math.max(0, conv.head - conv.read);
  conv.row.querySelector(".badge").textContent = unread > 0 ? unread : "";
  conv.row.firstChild.ariaCurrent = String(conv === current);
  conv.row.firstChild.ariaLabel = unread > 0 ? `${conv.peer}, ${unread} unread` : conv.peer;
  return conv.row;
}

function showTyping() {
  $("typing").textContent = current && current.typingUntil > Date.now() ? `${current.peer} is typing …` : "";
}

// ---- What a person does, and the start

let typedAt = 0;

function listen() {
  const submit = (id, act) => $(id).addEventListener("submit", (event) => (event.preventDefault(), act()));
  submit("login", () => {
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
    if (!welcome || current.peer === me || Date.now() - typedAt < 3000) return;
    typedAt = Date.now();
    say({ op: "signal", to: `@${current.peer}`, type: "typing" });
  });
  $("older").addEventListener("click", () => loadOlder(current));
  $("now").addEventListener("click", connect);
  addEventListener("hashchange", () => location.reload()); // another link pasted into this tab
  document.addEventListener("visibilitychange", () => current && markRead(current));
}

/** Takes token and peer from the link, out of the address bar: that ends in bookmarks and screenshots. */
function readLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  for (const name of ["token", "peer"]) {
    if (link.has(name)) sessionStorage.setItem(`natter.${name}`, link.get(name));
  }
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  return sessionStorage.getItem("natter.token");
}

async function start() {
  listen();
  const token = readLink();
  if (!token) {
    $("open").inert = true;
    return show("no token");
  }
  await prepare(token, on, show);
  outbox = JSON.parse(sessionStorage.getItem(`natter.outbox.${me}`) ?? "[]");
  for (const item of outbox) pend(conversation(idWith(item.to.slice(1))), item);
  const peer = sessionStorage.getItem("natter.peer");
  if (isName(peer)) open(peer);
  setInterval(showWait, 1000);
  connect();
}

start();
