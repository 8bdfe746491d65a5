// The chat page: a client of the WebSocket protocol v1 in JSON, connected to the node that served it.
// Top to bottom: who we are, the connection, what the node says, sending, conversations, what is shown.

const $ = (id) => document.getElementById(id);
const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const PAGE = 50; // messages of one `history` answer
const PATIENCE = 10_000; // ms without the answer to a question: the connection is dead
const RECONNECT = new Set([1001, 1005, 1006, 1011, 1012, 1013]); // and 4000–4099
const GONE = { op: "error", code: "gone", message: "the connection ended", retry: true };

// ---- Who we are

let token, me, device, attempts; // `attempts`: where the counter of hello is kept

/** Takes token and peer from the link, out of the address bar: that ends in bookmarks and screenshots. */
function readLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  for (const name of ["token", "peer"]) {
    if (link.has(name)) sessionStorage.setItem(`natter.${name}`, link.get(name));
  }
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  return sessionStorage.getItem("natter.token");
}

/** The user of a token. Only the node checks tokens; this is to find the device before asking it. */
function subjectOf(jwt) {
  try {
    const { sub } = JSON.parse(atob(jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return NAME.test(sub) ? sub : "nobody";
  } catch {
    return "nobody";
  }
}

const randomId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((b) => b.toString(16).padStart(2, "0")).join("");

/** Takes a lock and keeps it until the tab is gone; false when another tab has it. */
const hold = (name, options) => new Promise((done) => {
  const keep = (lock) => (done(lock !== null), lock && new Promise(() => {}));
  navigator.locks.request(name, options, keep).catch(() => done(false));
});

/** One device per tab, so that tabs do not replace each other; a tab that is gone leaves its device to the next. */
async function claimDevice() {
  const mine = `natter.slot.${me}`;
  const lock = (slot) => `natter.device.${me}.${slot}`;
  let store = localStorage;
  let slot = sessionStorage.getItem(mine);
  if (!navigator.locks) {
    store = sessionStorage; // no locks outside of https and localhost
    slot = 0;
  } else if (slot === null || !(await hold(lock(slot), { signal: AbortSignal.timeout(1000) }))) {
    // The wait above: after a reload the old page may still be on its way out. A duplicated tab waits in vain.
    for (slot = 0; !(await hold(lock(slot), { ifAvailable: true })); ) slot += 1;
  }
  sessionStorage.setItem(mine, slot);
  device = store.getItem(lock(slot)) ?? `web-${randomId()}`;
  store.setItem(lock(slot), device);
  const counter = `natter.attempt.${device}`;
  attempts = { next: () => store.setItem(counter, Number(store.getItem(counter)) + 1), get: () => Number(store.getItem(counter)) };
}

// ---- The connection

let socket = null;
let welcome = null; // as the node said it, while connected
let failures = 0; // connections in a row that did not catch up
let returnIn = null; // ms, from `goodbye`
let refusal = ""; // the last error that was no answer
let retryAt = 0;
let retryTimer;
let deadline = Infinity; // something must be heard by then
let heardAt = 0;
let lastRef = 0;
const waiting = new Map(); // ref → who waits for the answer

function connect() {
  clearTimeout(retryTimer);
  returnIn = null;
  drop();
  attempts.next();
  show("connecting");
  const url = new URL("v1/ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const mine = (socket = new WebSocket(url, "natter.json.v1"));
  deadline = Date.now() + PATIENCE;
  mine.onopen = () => say({ op: "hello", token, device, client: "natter page", attempt: attempts.get() });
  mine.onmessage = (event) => mine === socket && hear(JSON.parse(event.data));
  mine.onclose = (event) => mine === socket && onClosed(event.code, event.reason);
}

/** Forgets the connection at once: a dead one would take its time to say that it is closed. */
function drop() {
  const old = socket;
  socket = welcome = null;
  deadline = Infinity;
  old?.close();
  for (const answer of waiting.values()) answer(GONE);
  waiting.clear();
}

function say(frame) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
}

/** The answer to a request; an `error` that may be retried when the connection ends before. */
function ask(frame) {
  if (!welcome) return Promise.resolve(GONE);
  return new Promise((answer) => {
    lastRef += 1;
    waiting.set(lastRef, answer);
    deadline = Math.min(deadline, Date.now() + PATIENCE);
    say({ ...frame, ref: lastRef });
  });
}

function onClosed(code, reason) {
  drop();
  if (RECONNECT.has(code) || (code >= 4000 && code < 4100)) return reconnectLater();
  show("closed", `closed: ${refusal || reason || `code ${code}`}`);
  $("login").hidden = !(code === 4100 || code === 4101);
}

/** A node that stops spreads its users itself; otherwise 0.5 s, doubled up to 30 s, and half of that is chance. */
function reconnectLater() {
  const backOff = Math.min(30_000, 500 * 2 ** failures) * (0.5 + Math.random() / 2);
  const wait = returnIn ?? backOff;
  failures += 1;
  returnIn = null;
  retryAt = Date.now() + wait;
  retryTimer = setTimeout(connect, wait);
  show("reconnecting");
}

/** A browser does not tell of pings, so a silent connection is asked something small. */
function watch() {
  const now = Date.now();
  if (now > deadline) {
    drop();
    reconnectLater();
  } else if (welcome && deadline === Infinity && now - heardAt > 2000 * welcome.ping_secs) {
    ask({ op: "conversations", limit: 1 });
  }
  showWait();
}

function comeBack() {
  if (document.visibilityState !== "visible") return;
  if ($("state").dataset.state === "reconnecting") connect();
  else ask({ op: "conversations", limit: 1 });
  if (current) markRead(current);
}

// ---- What the node says

function hear(frame) {
  heardAt = Date.now();
  deadline = Infinity;
  const answer = waiting.get(frame.ref);
  waiting.delete(frame.ref);
  if (answer) answer(frame);
  else if (Object.hasOwn(on, frame.op)) on[frame.op](frame);
}

const on = {
  welcome(frame) {
    welcome = frame;
    refusal = "";
    notice("");
    for (const conv of convs.values()) conv.asked = 0;
    show("catching up");
    $("who").textContent = `${frame.user} on ${frame.node}`;
    sendAll();
    listConversations();
    if (current && !current.loaded) loadOlder(current);
  },
  caught_up() {
    failures = 0;
    show("live");
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
  goodbye(frame) {
    returnIn = frame.reconnect_ms;
  },
  error(frame) {
    refusal = frame.message;
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
  const item = { to: `@${current.peer}`, cid: randomId(), body: { text } };
  const size = new TextEncoder().encode(JSON.stringify(item.body)).length;
  if (size > limit) return notice(`the message is too long: ${size} bytes, the limit is ${limit}`);
  outbox.push(item);
  keepOutbox();
  pend(current, item);
  $("log").scrollTop = $("log").scrollHeight;
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
  const message = (from === me && conv.pending.get(cid)) || { conv };
  conv.pending.delete(cid);
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
  const first = conv.low === Infinity;
  const answer = await ask({ op: "history", conv: conv.id, limit: PAGE, ...(first ? {} : { before: conv.low }) });
  if (answer.op !== "history") return answer === GONE || notice(answer.message);
  conv.loaded = true;
  conv.more = answer.more;
  const height = $("log").scrollHeight - $("log").scrollTop;
  $("log").ariaBusy = "true"; // a screen reader is not to read the past aloud
  for (const message of answer.messages) take(conv, message);
  $("log").ariaBusy = "false";
  if (conv !== current) return;
  $("log").scrollTop = first ? $("log").scrollHeight : $("log").scrollHeight - height;
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

/** `state`: connecting, catching up, live, reconnecting, closed, or "no token". */
function show(state, text = state) {
  $("state").dataset.state = state;
  $("state").textContent = text;
  $("login").hidden = true;
  $("now").hidden = state !== "reconnecting" && state !== "closed";
  showWait();
}

function showWait() {
  const left = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
  $("wait").textContent = $("state").dataset.state === "reconnecting" ? `in ${left} s` : "";
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
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  message.item?.remove();
  delete message.item?.dataset.tick;
  showMessage(message);
  let before = $("messages").lastElementChild;
  while (before && before.message.seq > message.seq) before = before.previousElementSibling;
  if (before) before.after(message.item);
  else $("messages").prepend(message.item);
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function showConversation() {
  $("chat").hidden = false;
  $("title").textContent = current.peer === me ? `${me} (yourself)` : current.peer;
  $("messages").replaceChildren();
  for (const message of [...current.messages.values(), ...current.pending.values()]) place(message);
  $("log").scrollTop = $("log").scrollHeight;
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
  addEventListener("online", comeBack);
  document.addEventListener("visibilitychange", comeBack);
}

async function start() {
  listen();
  token = readLink();
  if (!token) {
    show("no token");
    $("login").hidden = false;
    $("open").inert = true;
    return;
  }
  me = subjectOf(token);
  await claimDevice();
  outbox = JSON.parse(sessionStorage.getItem(`natter.outbox.${me}`) ?? "[]");
  for (const item of outbox) pend(conversation(idWith(item.to.slice(1))), item);
  const peer = sessionStorage.getItem("natter.peer");
  if (NAME.test(peer)) open(peer);
  setInterval(watch, 1000);
  connect();
}

start();
