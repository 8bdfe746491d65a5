// The connection to the node that served the page: one device per tab, one WebSocket at a time, reconnects as the
// protocol asks for, questions with answers. Called by app.mjs; knows nothing of messages and of what is shown.

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const PATIENCE = 10_000; // ms without a word after a question: the connection is dead
const RECONNECT = new Set([1001, 1005, 1006, 1011, 1012, 1013]); // and 4000–4099

/** What a question gets when the connection ends before its answer. */
export const GONE = { op: "error", code: "gone", message: "the connection ended", retry: true };
export let me; // the user: from the token, or as the node said it if that differs
export let welcome = null; // as the node said it; null while not connected

let token, device, attempts, on, onState;
let socket = null;
let failures = 0; // connections in a row that did not catch up
let returnIn = null; // ms, from `goodbye`
let refusal = ""; // the last error that answered no question
let retryTimer;
let state;
let deadline = Infinity; // something must be heard by then
let heardAt = 0;
let lastRef = 0;
const waiting = new Map(); // ref → who waits for the answer

export const isName = (text) => typeof text === "string" && NAME.test(text);

export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Finds user and device; `connect` does the rest. `handlers` has a function per `op` of a frame that answers no
 * question. `show(state, detail)`: connecting, "catching up", live, reconnecting and offline (detail: at), closed (detail:
 * why, code).
 */
export async function prepare(jwt, handlers, show) {
  [token, on, onState] = [jwt, handlers, show];
  me = sessionStorage.getItem("natter.user") ?? subjectOf(token);
  await claimDevice();
  setInterval(watch, 1000);
  addEventListener("online", lookAlive);
  addEventListener("offline", lostNetwork);
  document.addEventListener("visibilitychange", lookAlive);
}

/** The user of a token. Only the node checks tokens; this is to find the device before asking it. */
function subjectOf(jwt) {
  try {
    const { sub } = JSON.parse(atob(jwt.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return isName(sub) ? sub : "nobody";
  } catch {
    return "nobody";
  }
}

/** Takes a lock and keeps it until the tab is gone; false when another tab has it. */
const hold = (name, options) => new Promise((done) => {
  const keep = (lock) => (done(lock !== null), lock && new Promise(() => {}));
  navigator.locks.request(name, options, keep).catch(() => done(false));
});

/** One device per tab, so that tabs do not replace each other; a tab that is gone leaves its device to the next. */
async function claimDevice() {
  const mine = `natter.slot.${me}`;
  const name = (slot) => `natter.device.${me}.${slot}`;
  let store = localStorage;
  let slot = sessionStorage.getItem(mine);
  if (!navigator.locks) {
    [store, slot] = [sessionStorage, 0]; // there are no locks outside of https and localhost
  } else if (slot === null || !(await hold(name(slot), { signal: AbortSignal.timeout(1000) }))) {
    // The wait above: after a reload the old page may still be on its way out. A duplicated tab waits in vain.
    for (slot = 0; !(await hold(name(slot), { ifAvailable: true })); ) slot += 1;
  }
  sessionStorage.setItem(mine, slot);
  device = store.getItem(name(slot)) ?? `web-${randomId()}`;
  store.setItem(name(slot), device);
  const counter = `natter.attempt.${device}`;
  attempts = () => {
    const next = Number(store.getItem(counter)) + 1;
    store.setItem(counter, next);
    return next;
  };
}

/** Connects now, whatever there was before. */
export function connect() {
  clearTimeout(retryTimer);
  returnIn = null;
  drop();
  turn("connecting");
  const url = new URL("v1/ws", location.href);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  const mine = (socket = new WebSocket(url, "natter.json.v1"));
  const hello = { op: "hello", token, device, client: "natter page", attempt: attempts() };
  deadline = Date.now() + PATIENCE;
  mine.onopen = () => say(hello);
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

function turn(to, detail) {
  state = to;
  onState(to, detail);
}

export function say(frame) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
}

/** The answer to a question, be it an `error`; `GONE` when there is no connection or it ends. */
export function ask(frame) {
  if (!welcome) return Promise.resolve(GONE);
  return new Promise((answer) => {
    lastRef += 1;
    waiting.set(lastRef, answer);
    deadline = Math.min(deadline, Date.now() + PATIENCE);
    say({ ...frame, ref: lastRef });
  });
}

function hear(frame) {
  heardAt = Date.now();
  deadline = Infinity;
  const answer = waiting.get(frame.ref);
  waiting.delete(frame.ref);
  if (answer) return answer(frame);
  if (frame.op === "welcome" && frame.user !== me) {
    // The node may take the user from another claim: begin again as the one that it named.
    sessionStorage.setItem("natter.user", frame.user);
    return location.reload();
  }
  if (frame.op === "welcome") {
    welcome = frame;
    turn("catching up");
  } else if (frame.op === "caught_up") {
    failures = 0;
    turn("live");
  } else if (frame.op === "goodbye") {
    returnIn = frame.reconnect_ms;
  } else if (frame.op === "error") {
    refusal = frame.message;
  }
  if (Object.hasOwn(on, frame.op)) on[frame.op](frame);
}

function onClosed(code, reason) {
  const greeted = welcome !== null;
  drop();
  if (RECONNECT.has(code) || (code >= 4000 && code < 4100)) return reconnectLater();
  // An error before the welcome is the reason in more words; one after it was about something else.
  turn("closed", { code, why: (!greeted && refusal) || reason || `code ${code}` });
}

/** A node that stops spreads its users itself; otherwise 0.5 s, doubled up to 30 s, and half of that is chance. */
function reconnectLater() {
  const wait = returnIn ?? Math.min(30_000, 500 * 2 ** failures) * (0.5 + Math.random() / 2);
  failures += 1;
  retryTimer = setTimeout(connect, wait);
  turn(navigator.onLine ? "reconnecting" : "offline", { at: Date.now() + wait });
}

/** A socket would find out only after minutes. The tries go on: a node on the same machine can still be reached. */
function lostNetwork() {
  if (state === "closed") return;
  clearTimeout(retryTimer);
  drop();
  reconnectLater();
}

/** A browser does not tell of pings, so a silent connection is asked for a sign of life. */
function watch() {
  const now = Date.now();
  if (now > deadline) {
    drop();
    reconnectLater();
  } else if (welcome && now - heardAt > 2000 * welcome.ping_secs) {
    ask({ op: "ping" });
  }
}

/** The machine woke up, the network is back, or somebody looks at the page again. */
function lookAlive() {
  if (document.visibilityState !== "visible") return;
  if (state === "reconnecting" || state === "offline") connect();
  else ask({ op: "ping" });
}
