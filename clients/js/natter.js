// A client of natter for browsers and Node: one ES module, no dependencies, nothing to build. Served by every node at
// /natter.js; docs/clients.md is its manual, natter.d.ts its types, docs/protocol.md the law that it keeps ("rule 8"
// below is one of its rules for a client).
//
// From top to bottom: errors and names; `Places`, how far the device is; `Requests`, what waits for an answer; stores, what
// outlives a reload; `Client`, the connection that uses them. The first three do no I/O.

export const VERSION = "0.1.0";

const NAME = /^[A-Za-z0-9_-]{1,64}$/;
const RECONNECT = new Set([1001, 1005, 1006, 1011, 1012, 1013]); // and 4000 to 4099
const ANSWERS = new Set(["sent", "history", "conversations", "sessions", "ended", "changed", "room", "rooms", "members", "presences",
  "blocking", "blocks", "readers", "token_ok", "pong", "error"]);
const LABELS = { 1000: "gone", 1002: "protocol", 1007: "not_utf8", 1009: "frame_too_large", 4100: "bad_token", 4101: "token_expired",
  4102: "violation", 4103: "disconnected", 4104: "replaced" };

// All in milliseconds.
const FIRST_WAIT = 500; // before the first reconnect, doubled up to …
const LONGEST_WAIT = 30_000;
const RETRY_FIRST = 200; // after `unavailable`, doubled up to …
const RETRY_MOST = 5_000;
const PATIENCE = 10_000; // for a connection and its `welcome`, for a `pong`, for any word while something is asked
const LOGIN_PATIENCE = 15_000; // after the socket is open: logins may wait in line for 8 s
const GATHER = 100; // acknowledgements are gathered for so long …
const REFRESH_BEFORE = 60_000; // before a token ends

const GATHER_MESSAGES = 32; // … or until so many messages wait for one
const IN_FLIGHT = 64; // frames without an answer, as many as a node works on at once
const MOST_WAITING = 1_000; // requests that wait, those in the outbox included
const REPEATED = 256; // conversations whose last acknowledgement is said again after a reconnect
const PRESENCE_USERS = 100; // of one request
const LONGEST_TIMER = 2 ** 31 - 1;

// ---- Errors and names

/** Why something was not done. `code` is for programs, `message` for people. */
export class NatterError extends Error {
  constructor(code, message, more = {}) {
    super(message);
    this.name = "NatterError";
    this.code = code;
    Object.assign(this, more); // closeCode, cid
  }
}

/** A random id: of a message, of a device. */
export function randomId() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Whether a user, a device or a room may be called that. */
export const isName = (text) => typeof text === "string" && NAME.test(text);

/** The conversation of `user` with `@somebody`, or in `#room`. */
export function convOf(user, to) {
  const name = to.slice(1);
  return to[0] === "#" ? `room:${name}` : `dm:${[user, name].sort().join(":")}`;
}

/** The recipient of a conversation, as `user` sees it: `@somebody` or `#room`. */
export function recipientOf(user, conv) {
  const [kind, one, other] = conv.split(":");
  return kind === "room" ? `#${one}` : `@${one === user ? other : one}`;
}

/** The user in a token. Nobody checks it here: that is for the node. `undefined` where there is none. */
export function userOf(token) {
  try {
    const { sub } = JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")));
    return isName(sub) ? sub : undefined;
  } catch {
    return undefined;
  }
}

function check(holds, field, must) {
  if (!holds) throw new NatterError("bad_argument", `${field}: ${must}`);
}

function checkRecipient(to) {
  const fine = typeof to === "string" && (to[0] === "@" || to[0] === "#") && isName(to.slice(1));
  check(fine, "to", `must be @ and a user, or # and a room, of 1 to 64 letters, digits, _ and -; it is ${JSON.stringify(to)}`);
}

/** Between half and all of `first` · 2^tries, at most `most`: those who fell together do not come back together. */
const backoff = (tries, first, most) => Math.min(most, first * 2 ** Math.min(tries, 16)) * (0.5 + Math.random() / 2);

const bytesOf = (text) => new TextEncoder().encode(text).length;

// ---- How far the device is in each conversation

class Places {
  #places = new Map(); // conv → { have, acked, loose }
  #due = new Map(); // conv → seq, to be written
  #messages = 0; // that wait for an acknowledgement
  #written = new Map(); // on this connection, perhaps into a dead socket

  #of(conv) {
    let place = this.#places.get(conv);
    if (!place) this.#places.set(conv, (place = { have: 0, acked: 0, loose: true }));
    return place;
  }

  /** "new", "old" (rule 3) or "gap": something before it did not come. */
  take(conv, seq) {
    const place = this.#of(conv);
    if (seq <= place.have) {
      if (seq <= place.acked) this.#wait(conv, place.acked); // the node missed the first one
      return "old";
    }
    if (!place.loose && seq > place.have + 1) return "gap";
    Object.assign(place, { have: seq, loose: false });
    return "new";
  }

  /** Whatever comes next in `conv`, or in all conversations, follows on what is here. */
  loosen(conv) {
    if (conv !== undefined) this.#of(conv).loose = true;
    else for (const place of this.#places.values()) place.loose = true;
  }

  done(conv, seq) {
    const place = this.#of(conv);
    place.have = Math.max(place.have, seq); // above it the program knows more, from an earlier run
    place.acked = Math.max(place.acked, seq);
    this.#wait(conv, place.acked);
  }

  #wait(conv, seq) {
    this.#due.set(conv, seq);
    this.#messages += 1;
  }

  get isFull() {
    return this.#messages >= GATHER_MESSAGES;
  }

  get isEmpty() {
    return this.#due.size === 0;
  }

  takeDue() {
    const due = [...this.#due];
    this.#due.clear();
    this.#messages = 0;
    for (const [conv, seq] of due) {
      if (this.#written.size < REPEATED || this.#written.has(conv)) this.#written.set(conv, seq);
    }
    return due;
  }

  /** What was written may be lost, with a connection or because it was refused. */
  repeat() {
    for (const conv of this.#written.keys()) this.#wait(conv, this.#of(conv).acked);
    this.#written.clear();
  }
}

// ---- What waits for an answer

class Requests {
  #last = 0;
  #waiting = new Map(); // ref → request, in the order in which they were made
  #inFlight = new Set();

  get size() {
    return this.#waiting.size;
  }

  get values() {
    return this.#waiting.values();
  }

  get anyInFlight() {
    return this.#inFlight.size > 0;
  }

  /** `lane`: those of one lane keep their order, over refusals too. */
  add(frame, lane, settle) {
    const ref = (this.#last += 1);
    const request = { ref, frame, lane, settle, tries: 0, notBefore: 0 };
    for (const other of this.#waiting.values()) {
      if (lane && other.lane === lane) request.notBefore = Math.max(request.notBefore, other.notBefore);
    }
    this.#waiting.set(ref, request);
    return request;
  }

  /** The next ones to write, in their order. */
  *next(now) {
    for (const request of this.#waiting.values()) {
      if (this.#inFlight.size >= IN_FLIGHT) return;
      if (this.#inFlight.has(request.ref) || request.notBefore > now) continue;
      this.#inFlight.add(request.ref);
      yield request;
    }
  }

  /** When the next refused one is due. */
  get due() {
    let least = Infinity;
    for (const { ref, notBefore } of this.#waiting.values()) {
      if (notBefore > 0 && notBefore < least && !this.#inFlight.has(ref)) least = notBefore;
    }
    return least;
  }

  of(ref) {
    return this.#waiting.get(ref);
  }

  /**
   * Not now: it and what follows it in its lane are written again later, it first (rules 11 and 12). What was written already is
   * refused as well, or is stored, and then the repeat changes nothing.
   */
  hold(request, wait, now) {
    const pause = Math.max(5, wait ?? backoff(request.tries, RETRY_FIRST, RETRY_MOST));
    request.tries += 1;
    for (const other of this.#waiting.values()) {
      if (other !== request && (!request.lane || other.lane !== request.lane || other.ref < request.ref)) continue;
      // What follows never gets an earlier time than what it follows: their refusals tell times that differ by moments.
      other.notBefore = Math.max(other.notBefore, now + pause);
      this.#inFlight.delete(other.ref);
    }
  }

  remove(request) {
    this.#inFlight.delete(request.ref);
    return this.#waiting.delete(request.ref);
  }

  /** A new connection: all again, in the order in which it was written (rule 10). */
  reset() {
    this.#inFlight.clear();
    for (const request of this.#waiting.values()) request.notBefore = 0;
  }

  clear() {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    this.#inFlight.clear();
    return all;
  }
}

// ---- What outlives a reload

/** Keeps nothing over a reload or a restart. */
export function memoryStore() {
  const kept = new Map();
  const items = new Map();
  return {
    get: async (key) => kept.get(key),
    set: async (key, value) => void kept.set(key, value),
    items: async () => [...items.values()].sort((one, other) => one.n - other.n),
    put: async (item) => void items.set(item.n, item),
    remove: async (n) => void items.delete(n),
  };
}

/** A database of the browser, for one user and device. */
export function indexedDbStore(name) {
  const open = new Promise((done, failed) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("kept");
      request.result.createObjectStore("outbox", { keyPath: "n" });
    };
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
    request.onblocked = () => failed(new NatterError("store", `the database ${name} is in use`));
  });
  open.catch(() => {}); // told to whoever asks for something
  const run = async (store, mode, act) => {
    const database = await open;
    return new Promise((done, failed) => {
      const transaction = database.transaction(store, mode);
      const request = act(transaction.objectStore(store));
      transaction.oncomplete = () => done(request.result);
      transaction.onerror = transaction.onabort = () => failed(transaction.error);
    });
  };
  return {
    get: (key) => run("kept", "readonly", (store) => store.get(key)),
    set: (key, value) => run("kept", "readwrite", (store) => store.put(value, key)),
    items: () => run("outbox", "readonly", (store) => store.getAll()),
    put: (item) => run("outbox", "readwrite", (store) => store.put(item)),
    remove: (n) => run("outbox", "readwrite", (store) => store.delete(n)),
  };
}

/** One JSON file, for Node. It is replaced as a whole, so a crash leaves the old one or the new one. */
export function fileStore(path) {
  let data;
  let writing = Promise.resolve();
  let waits = false;
  const load = async () => {
    if (data) return data;
    const { readFile } = await import("node:fs/promises");
    const text = await readFile(path, "utf8").catch((error) => {
      if (error.code === "ENOENT") return '{"kept":{},"items":[]}';
      throw error;
    });
    return (data ??= JSON.parse(text));
  };
  const save = () => {
    if (waits) return writing; // the write that is about to begin takes this change with it
    waits = true;
    const write = async () => {
      waits = false;
      const { open, rename } = await import("node:fs/promises");
      const file = await open(`${path}.new`, "w", 0o600);
      await file.writeFile(JSON.stringify(data));
      await file.sync();
      await file.close();
      await rename(`${path}.new`, path);
    };
    return (writing = writing.catch(() => {}).then(write));
  };
  const change = async (act) => {
    act(await load());
    return save();
  };
  return {
    get: async (key) => (await load()).kept[key],
    set: (key, value) => change((all) => (all.kept[key] = value)),
    items: async () => [...(await load()).items],
    put: (item) => change((all) => all.items.push(item)),
    remove: (n) => change((all) => (all.items = all.items.filter((item) => item.n !== n))),
  };
}

/** Takes a lock and keeps it until the page is gone; false when another page has it. */
const hold = (name, options) => new Promise((done) => {
  const keep = (lock) => (done(lock !== null), lock && new Promise(() => {}));
  navigator.locks.request(name, options, keep).catch(() => done(false));
});

/**
 * The device of this tab, and the store that belongs to it. Each tab that is open is a device of its own; one that was closed
 * leaves its device, and what it had not sent, to the next one. docs/clients.md says why.
 */
export async function browserDevice(user) {
  const name = (slot) => `natter.device.${user}.${slot}`;
  const mine = `natter.slot.${user}`;
  const of = (keys, slot) => {
    const device = keys.getItem(name(slot)) ?? `web-${randomId()}`;
    keys.setItem(name(slot), device);
    return { device, store: indexedDbStore(`natter.${user}.${device}`) };
  };
  if (!navigator.locks) return of(sessionStorage, 0); // there are no locks outside of https and localhost
  let slot = sessionStorage.getItem(mine);
  // After a reload the old page may still be on its way out. A duplicated tab waits in vain.
  if (slot === null || !(await hold(name(slot), { signal: AbortSignal.timeout(1000) }))) {
    for (slot = 0; !(await hold(name(slot), { ifAvailable: true })); ) slot += 1;
  }
  sessionStorage.setItem(mine, slot);
  const own = of(localStorage, slot);
  await adoptOutboxes(user, name, own.store);
  return own;
}

/** Takes over what tabs that are gone have not sent: a message has its cid, so it cannot be stored twice. */
async function adoptOutboxes(user, name, store) {
  for (let slot = 0; localStorage.getItem(name(slot)) !== null; slot += 1) {
    const take = async (lock) => {
      if (!lock) return;
      const other = indexedDbStore(`natter.${user}.${localStorage.getItem(name(slot))}`);
      for (const [i, item] of (await other.items()).entries()) {
        await store.put({ ...item, n: Date.now() + i / 1000 });
        await other.remove(item.n);
      }
    };
    await navigator.locks.request(name(slot), { ifAvailable: true }, take).catch(() => {});
  }
}

// ---- The connection

/** One device of one user, connected to a mesh. Nothing happens before `connect()`. */
export class Client {
  #options;
  #urls;
  #store;
  #handlers = new Map();
  #places = new Places();
  #requests = new Requests();
  #outbox = new Map(); // n → item
  #lastN = 0;
  #marks = new Map(); // conv → seq: read marks without a receipt
  #watched = new Set();
  #since;
  #attempt = 0;

  #socket = null;
  #epoch = 0; // of the current try to connect: what belongs to an earlier one is dropped
  #failures = 0; // connections in a row that did not catch up
  #tries = 0;
  #returnIn = null;
  #refusal = null; // the last error that answered nothing, the reason of a close in more words
  #refusals = 0;
  #gaps = new Map(); // conv → seq of a gap that a reconnect is to fill
  #timers = new Map();
  #heardAt = 0;
  #skew = 0; // how far the node's clock is ahead of this one
  #pingAt = 0;
  #loading;
  #first; // who waits for the first `welcome`
  #unlisten = () => {};

  /** Who the node says this is; before the first `welcome`, who the token says. */
  user;
  device;
  /** The node's last `welcome`; `null` while there is no connection. */
  welcome = null;
  state = "idle";
  /** Why it is closed. */
  error = null;

  constructor(options) {
    const { url, token, device, store } = options ?? {};
    this.#urls = [url ?? globalThis.location?.origin].flat().map(socketUrl);
    check(this.#urls.length > 0, "url", "at least one address");
    check(typeof token === "string" || typeof token === "function", "token", "must be a text, or a function that gives one");
    check(device === undefined || isName(device), "device", "must be 1 to 64 letters, digits, _ and -");
    this.#options = { autoAck: true, reconnect: true, client: `natter.js/${VERSION}`, connectTimeout: 0, ...options };
    this.#store = store ?? memoryStore();
    this.device = device;
    if (typeof token === "string") this.user = userOf(token);
  }

  // ---- Events

  /** Calls `handler` for each event of that type; the answer ends that. */
  on(type, handler) {
    if (!this.#handlers.has(type)) this.#handlers.set(type, new Set());
    this.#handlers.get(type).add(handler);
    return () => this.#handlers.get(type).delete(handler);
  }

  #emit(type, event) {
    for (const handler of [...(this.#handlers.get(type) ?? [])]) {
      try {
        handler(event);
      } catch (error) {
        queueMicrotask(() => { throw error; }); // seen as any other fault of the program, and stops nothing here
      }
    }
  }

  #turn(state, detail = {}) {
    this.state = state;
    this.#emit("state", { state, ...detail });
  }

  // ---- The life of a connection

  /** Resolves with the first `welcome`. Rejects when the client is closed for good, or after `connectTimeout`. */
  connect() {
    if (this.#first) return this.#first.promise;
    this.#first = {};
    this.#first.promise = new Promise((done, failed) => Object.assign(this.#first, { done, failed }));
    this.#first.promise.catch(() => {}); // also told by the state
    const { connectTimeout } = this.#options;
    const late = () => !this.welcome && this.#end(new NatterError("timeout", `no connection after ${connectTimeout} ms`));
    if (connectTimeout > 0) this.#after("first", connectTimeout, late);
    this.#load().then(() => this.state === "idle" && (this.#listen(), this.#open()), (error) => this.#end(storeError(error)));
    return this.#first.promise;
  }

  /** Device, `since` and what was not sent, once. */
  #load() {
    this.#loading ??= (async () => {
      this.device ??= await this.#store.get("device");
      this.device ??= `js-${randomId()}`;
      this.#keep("device", this.device);
      this.#since = await this.#store.get(`since.${this.device}`);
      for (const item of await this.#store.items()) {
        this.#lastN = Math.max(this.#lastN, item.n);
        this.#outbox.set(item.n, item);
        this.#sendItem(item).catch(() => {}); // whoever waited for it is gone; `sent` and `refused` tell
      }
      if (this.#outbox.size > 0) this.#tellOutbox();
    })();
    return this.#loading;
  }

  #keep(key, value) {
    this.#store.set(key, value).catch((error) => this.#emit("error", storeError(error)));
  }

  #listen() {
    if (typeof document === "undefined") return;
    const online = () => this.reconnect();
    const offline = () => this.state !== "closed" && this.#lost(new NatterError("lost", "the network is away"));
    const visible = () => document.visibilityState === "visible" && this.check();
    addEventListener("online", online);
    addEventListener("offline", offline);
    document.addEventListener("visibilitychange", visible);
    this.#unlisten = () => {
      removeEventListener("online", online);
      removeEventListener("offline", offline);
      document.removeEventListener("visibilitychange", visible);
    };
  }

  async #open() {
    this.#drop();
    const epoch = this.#epoch;
    const here = () => epoch === this.#epoch && this.state !== "closed";
    this.#turn("connecting");
    const url = this.#urls[this.#tries % this.#urls.length];
    this.#tries += 1;
    this.#after("deadline", PATIENCE, () => this.#lost(new NatterError("timeout", `${url} does not answer`)));
    let token;
    try {
      token = await this.#token();
    } catch (error) {
      return here() && this.#lost(error);
    }
    if (!here()) return;
    const WebSocket = this.#options.WebSocket ?? globalThis.WebSocket;
    if (!WebSocket) {
      const how = "use Node 22 or newer, node --experimental-websocket, or give the option WebSocket (of the package ws)";
      return this.#end(new NatterError("no_websocket", `there is no WebSocket here: ${how}`));
    }
    const socket = (this.#socket = new WebSocket(url, "natter.json.v1"));
    this.#attempt = Math.max(Date.now(), this.#attempt + 1);
    const { device } = this;
    const hello = { op: "hello", token, device, client: this.#options.client, attempt: this.#attempt, since: this.#since };
    socket.onopen = () => {
      if (!here()) return;
      this.#after("deadline", LOGIN_PATIENCE, () => this.#lost(new NatterError("timeout", `${url} does not welcome`)));
      this.#write(hello);
    };
    socket.onmessage = ({ data }) => here() && this.#hear(data);
    socket.onerror = () => {}; // a close follows
    socket.onclose = ({ code, reason }) => here() && this.#onClosed(code, reason);
  }

  async #token() {
    const { token } = this.#options;
    try {
      const found = typeof token === "function" ? await token() : token;
      check(typeof found === "string" && found !== "", "token", "the function gave none");
      return found;
    } catch (error) {
      throw new NatterError("token", `there is no token: ${error?.message ?? error}`, { cause: error });
    }
  }

  /** Forgets the connection at once: a dead one takes its time to say that it is closed. */
  #drop() {
    this.#epoch += 1;
    for (const name of ["deadline", "retry", "silence", "refresh", "acks", "requests", "repeat"]) this.#cancel(name);
    const socket = this.#socket;
    this.#socket = this.welcome = null;
    socket?.close();
  }

  #onClosed(code, reason) {
    const greeted = this.welcome !== null;
    const label = LABELS[code] ?? `close_${code}`;
    const words = (!greeted && this.#refusal?.message) || reason || (code === 1006 ? "the connection was lost" : label);
    const error = new NatterError(label, words, { closeCode: code });
    const renews = code === 4101 && typeof this.#options.token === "function";
    if (renews || RECONNECT.has(code) || (code >= 4000 && code < 4100)) return this.#lost(error);
    return this.#end(error);
  }

  /** Tries again later: as the node said, or by rule 14. */
  #lost(error) {
    this.#drop();
    if (!this.#options.reconnect) return this.#end(error);
    const wait = this.#returnIn ?? backoff(this.#failures, FIRST_WAIT, LONGEST_WAIT);
    this.#returnIn = this.#refusal = null;
    this.#failures += 1;
    this.#after("retry", wait, () => this.#open());
    this.#turn(globalThis.navigator?.onLine === false ? "offline" : "reconnecting", { at: Date.now() + wait, error });
  }

  #end(error) {
    if (this.state === "closed") return;
    this.#drop();
    for (const name of [...this.#timers.keys()]) this.#cancel(name);
    this.#unlisten();
    this.error = error;
    for (const { settle } of this.#requests.clear()) settle.failed(error);
    this.#turn("closed", { error });
    this.#first?.failed(error);
  }

  /** Ends it for good. What is in the outbox stays in the store, for the next client of the device. */
  async close() {
    this.#flushAcks();
    this.#end(new NatterError("closed", "the client was closed"));
    await this.#loading?.catch(() => {});
  }

  /** Connects now instead of when it is time; does nothing while there is a connection. */
  reconnect() {
    if (["reconnecting", "offline"].includes(this.state)) this.#open();
  }

  /** Asks for a sign of life, for when the machine may have slept; while there is no connection, connects now. */
  check() {
    if (this.welcome && this.#pingAt === 0) this.#ping();
    else this.reconnect();
  }

  #after(name, wait, act) {
    this.#cancel(name);
    // A timer of a browser knows no more than 24 days: then it is set anew.
    const step = Math.min(wait, LONGEST_TIMER);
    const run = () => (this.#timers.delete(name), step < wait ? this.#after(name, wait - step, act) : act());
    this.#timers.set(name, setTimeout(run, step));
  }

  #cancel(name) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  #write(frame) {
    this.#socket?.send(JSON.stringify(frame));
  }

  // ---- A sign of life (rule 18)

  #watchSilence() {
    this.#after("silence", 1000, () => {
      const silent = Date.now() - this.#heardAt;
      const most = this.#requests.anyInFlight ? PATIENCE : 2000 * this.welcome.ping_secs;
      if (this.#pingAt === 0 && silent >= most) this.#ping();
      this.#watchSilence();
    });
  }

  #ping() {
    this.#pingAt = Date.now();
    this.#write({ op: "ping" });
    this.#after("deadline", PATIENCE, () => this.#lost(new NatterError("lost", "the node is silent")));
  }

  // ---- What the node says

  #hear(text) {
    this.#heardAt = Date.now();
    if (this.welcome) {
      this.#pingAt = 0;
      this.#cancel("deadline");
    }
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return; // a later version may say what this one does not know (rule 20)
    }
    const request = this.#requests.of(frame?.ref);
    if (request && ANSWERS.has(frame.op)) return this.#onAnswer(request, frame);
    const by = { welcome: this.#onWelcome, message: this.#onMessage, receipt: this.#onReceipt, caught_up: this.#onCaughtUp,
      truncated: this.#onTruncated, goodbye: this.#onGoodbye, error: this.#onError, signal: this.#onSignal,
      member: this.#onMember, presence: this.#onPresence };
    if (Object.hasOwn(by, frame?.op)) by[frame.op].call(this, frame);
  }

  #onWelcome(frame) {
    this.welcome = frame;
    this.user = frame.user;
    this.#skew = frame.ts - Date.now();
    this.#cancel("deadline");
    this.#cancel("first");
    this.#pingAt = 0;
    if (frame.new) this.#places.loosen();
    for (const request of this.#requests.values) request.lane = this.#laneOf(request.frame, request.lane);
    this.#places.repeat();
    this.#requests.reset();
    this.#watchSilence();
    this.#refreshAt(frame.exp);
    this.#turn("catching up", { welcome: frame });
    this.#first?.done(frame);
    this.#flushAcks();
    this.#pump();
    this.#repeatMarks();
  }

  #onMessage(frame) {
    const { conv, seq, from, cid } = frame;
    if (typeof conv !== "string" || !Number.isSafeInteger(seq)) return; // of a later version, if it is a message at all
    const taken = this.#places.take(conv, seq);
    if (taken === "gap" && this.#gaps.get(conv) !== seq) {
      // Never acknowledged, so a new connection brings what is missing (rule 5). Once: a hole that stays is in the log.
      this.#gaps.set(conv, seq);
      return this.#lost(new NatterError("gap", `${conv} went on with ${seq}, something before it did not come`));
    }
    if (taken === "gap") {
      this.#gaps.delete(conv);
      this.#onTruncated({ conv, from: seq });
      this.#places.take(conv, seq);
    }
    if (from === this.user && cid !== undefined) this.#ownArrived(frame);
    if (taken !== "old") {
      this.#emit("message", frame);
      if (this.#options.autoAck) this.#places.done(conv, seq);
    }
    this.#scheduleAcks();
  }

  /** One's own message is stored, whatever became of the answer (rule 9). */
  #ownArrived({ conv, seq, ts, cid }) {
    for (const request of this.#requests.values) {
      if (request.frame.cid !== cid || request.lane !== conv) continue;
      this.#requests.remove(request);
      request.settle.done({ op: "sent", conv, seq, ts });
      return this.#pump();
    }
  }

  #onReceipt(frame) {
    if (frame.user === this.user && frame.read >= (this.#marks.get(frame.conv) ?? Infinity)) this.#marks.delete(frame.conv);
    this.#emit("receipt", frame);
  }

  #onCaughtUp({ since }) {
    this.#failures = 0; // only now (rule 16)
    this.#gaps.clear();
    if (since !== undefined) {
      this.#since = since;
      this.#keep(`since.${this.device}`, since);
    }
    this.#turn("live", { welcome: this.welcome });
    this.#emit("caughtUp", {});
  }

  #onTruncated({ conv, from }) {
    this.#places.loosen(conv);
    this.#emit("truncated", { conv, from });
  }

  #onGoodbye({ reason, reconnect_ms }) {
    this.#returnIn = reconnect_ms;
    this.#emit("goodbye", { reason, reconnect_ms });
  }

  #onSignal(frame) {
    this.#emit("signal", frame);
  }

  #onMember(frame) {
    this.#emit("member", frame);
  }

  #onPresence(frame) {
    if (frame.online === undefined) this.#watched.delete(frame.user); // a block ended the watch
    this.#emit("presence", frame);
  }

  /** Of what has no answer: an `ack`, a `read`, a `signal`, the `hello`. Marks are cumulative and are said again. */
  #onError(frame) {
    this.#refusal = frame;
    if (frame.code === "bad_ack") this.#marks.clear(); // which one is not said, and a bad one would be sent for ever
    if (frame.retry && this.welcome) {
      const wait = Math.max(frame.retry_after_ms ?? 0, backoff(this.#refusals, RETRY_FIRST, RETRY_MOST));
      this.#refusals += 1;
      if (!this.#timers.has("repeat")) this.#after("repeat", wait, () => this.#repeatRefused());
    }
    this.#emit("error", new NatterError(frame.code, frame.message));
  }

  #repeatRefused() {
    this.#places.repeat();
    this.#flushAcks();
    this.#repeatMarks();
  }

  // ---- Requests

  #pump() {
    if (!this.welcome) return;
    for (const request of this.#requests.next(Date.now())) {
      const { ref, frame } = request;
      const text = JSON.stringify({ ...frame, ref });
      const size = frame.body === undefined ? 0 : bytesOf(JSON.stringify(frame.body));
      const limit = this.welcome.limits.body;
      // A frame over its limit would end the connection.
      if (size <= limit) this.#socket.send(text);
      else this.#refuse(request, new NatterError("too_large", `body: ${size} bytes, the limit is ${limit}`));
    }
    const due = this.#requests.due;
    if (due < Infinity) this.#after("requests", Math.max(0, due - Date.now()), () => this.#pump());
  }

  #onAnswer(request, frame) {
    if (frame.op === "error" && frame.retry) {
      this.#requests.hold(request, frame.retry_after_ms, Date.now());
    } else if (frame.op === "error") {
      this.#refuse(request, new NatterError(frame.code, frame.message));
    } else {
      this.#refusals = 0;
      this.#requests.remove(request);
      const { op, ref, ...answer } = frame;
      request.settle.done(answer);
    }
    this.#pump();
  }

  #refuse(request, error) {
    this.#requests.remove(request);
    request.settle.failed(error);
  }

  /** Asks, over reconnects, until there is an answer; what may succeed later is asked again. */
  #ask(frame, lane) {
    if (this.state === "closed") return Promise.reject(this.error);
    if (this.#requests.size >= MOST_WAITING) {
      return Promise.reject(new NatterError("too_many_waiting", `${MOST_WAITING} requests wait for an answer already`));
    }
    return new Promise((done, failed) => {
      this.#requests.add(frame, lane, { done, failed });
      this.#pump();
    });
  }

  // ---- Messages: kept in the store until they are answered

  /** What is not sent yet, in the order in which it was written. */
  get outbox() {
    return [...this.#outbox.values()].map(({ frame, at }) => ({ ...frame, at }));
  }

  /** Once for all that changed in this moment. */
  #tellOutbox() {
    if (!this.#timers.has("outbox")) this.#after("outbox", 0, () => this.#emit("outbox", this.outbox));
  }

  /** Resolves when the message is durable. */
  send(to, body, { cid, replyTo, mentions, expires } = {}) {
    try {
      checkRecipient(to);
      check(body !== undefined, "body", "must be a JSON value");
    } catch (error) {
      return Promise.reject(error);
    }
    return this.#post({ op: "send", to, cid: cid ?? randomId(), body, reply_to: replyTo, mentions, expires });
  }

  edit(conv, re, body, { cid } = {}) {
    return this.#post({ op: "edit", conv, re, cid: cid ?? randomId(), body });
  }

  delete(conv, re, { cid } = {}) {
    return this.#post({ op: "delete", conv, re, cid: cid ?? randomId() });
  }

  react(conv, re, reaction, { cid } = {}) {
    return this.#post({ op: "react", conv, re, cid: cid ?? randomId(), reaction });
  }

  unreact(conv, re, reaction, { cid } = {}) {
    return this.#post({ op: "unreact", conv, re, cid: cid ?? randomId(), reaction });
  }

  async #post(made) {
    if (this.state === "closed") throw this.error;
    await this.#load();
    const frame = JSON.parse(JSON.stringify(made)); // as it is now, whatever the program does with its body
    const n = (this.#lastN = Math.max(Date.now(), this.#lastN + 1));
    const item = { n, at: Date.now(), frame };
    if (this.#requests.size >= MOST_WAITING) {
      throw new NatterError("too_many_waiting", `${MOST_WAITING} requests wait for an answer already`, { cid: frame.cid });
    }
    this.#outbox.set(n, item);
    this.#store.put(item).catch((error) => this.#emit("error", storeError(error)));
    const answer = this.#sendItem(item);
    this.#tellOutbox();
    return answer;
  }

  async #sendItem({ n, frame }) {
    const settle = (type, event) => {
      this.#outbox.delete(n);
      this.#store.remove(n).catch((error) => this.#emit("error", storeError(error)));
      this.#emit(type, event);
      this.#tellOutbox();
    };
    try {
      const { conv, seq, ts } = await this.#ask(frame, this.#laneOf(frame));
      settle("sent", { frame, cid: frame.cid, conv, seq, ts });
      return { conv, seq, ts, cid: frame.cid };
    } catch (error) {
      // Of a client that is closed it stays in the store, for the next one.
      if (this.state !== "closed") settle("refused", { frame, cid: frame.cid, error });
      throw Object.assign(error, { cid: frame.cid });
    }
  }

  /** The conversation that a message goes to, as far as it is known who the user is. */
  #laneOf(frame, known) {
    if (frame.to === undefined) return frame.conv ?? known;
    return this.user || frame.to[0] === "#" ? convOf(this.user, frame.to) : known;
  }

  /** Gives up a message of the outbox. One that was written to a connection already may be stored all the same. */
  discard(cid) {
    for (const request of this.#requests.values) {
      if (request.frame.cid === cid) this.#refuse(request, new NatterError("discarded", "it was discarded", { cid }));
    }
  }

  // ---- Acknowledgements and read marks

  /** Everything up to `seq` has been taken in; only needed with `autoAck: false`. */
  ack(conv, seq) {
    this.#places.done(conv, seq);
    this.#scheduleAcks();
  }

  #scheduleAcks() {
    if (this.#places.isFull) this.#flushAcks();
    else if (!this.#places.isEmpty && !this.#timers.has("acks")) this.#after("acks", GATHER, () => this.#flushAcks());
  }

  #flushAcks() {
    this.#cancel("acks");
    if (!this.welcome) return;
    for (const [conv, seq] of this.#places.takeDue()) this.#write({ op: "ack", conv, seq });
  }

  /** The person has read everything up to `seq`. Said again after a reconnect until a receipt shows that it arrived. */
  read(conv, seq) {
    if ((this.#marks.get(conv) ?? 0) >= seq) return;
    this.#marks.set(conv, seq);
    if (this.welcome) this.#write({ op: "read", conv, seq });
  }

  #repeatMarks() {
    if (!this.welcome) return;
    for (const [conv, seq] of this.#marks) this.#write({ op: "read", conv, seq });
    const users = [...this.#watched];
    for (let at = 0; at < users.length; at += PRESENCE_USERS) this.#watchSome(users.slice(at, at + PRESENCE_USERS)).catch(() => {});
  }

  // ---- What may be asked

  /** A page of a conversation, the oldest first: `before`, `after` or `around` a seq, or the newest. */
  history(conv, { before, after, around, limit, raw } = {}) {
    return this.#ask({ op: "history", conv, before, after, around, limit, raw });
  }

  /** Page after page, from `before` (or the end) back, or from `after` on. */
  async *pages(conv, { before, after, limit, raw } = {}) {
    let from = after === undefined ? { before } : { after };
    for (;;) {
      const page = await this.history(conv, { ...from, limit, raw });
      yield page.messages;
      if (!page.more || page.next === undefined) return;
      from = after === undefined ? { before: page.next } : { after: page.next };
    }
  }

  conversations({ after, limit } = {}) {
    return this.#ask({ op: "conversations", after, limit });
  }

  sessions() {
    return this.#ask({ op: "sessions" });
  }

  /** `{ session }` or `{ device }`. */
  endSession({ session, device }) {
    return this.#ask({ op: "end_session", session, device });
  }

  createRoom(room, { topic, public: open, history, lifetime, cid } = {}) {
    return this.#ask({ op: "create", room, topic, public: open, history, lifetime, cid: cid ?? randomId() }, "rooms");
  }

  joinRoom(room, options) {
    return this.#changeRoom("join", { room }, options);
  }

  leaveRoom(room, options) {
    return this.#changeRoom("leave", { room }, options);
  }

  invite(room, user, options) {
    return this.#changeRoom("invite", { room, user }, options);
  }

  kick(room, user, options) {
    return this.#changeRoom("kick", { room, user }, options);
  }

  setRole(room, user, role, options) {
    return this.#changeRoom("role", { room, user, role }, options);
  }

  setTopic(room, topic, options) {
    return this.#changeRoom("topic", { room, topic }, options);
  }

  setLifetime(room, lifetime, options) {
    return this.#changeRoom("lifetime", { room, lifetime }, options);
  }

  #changeRoom(op, fields, { cid } = {}) {
    return this.#ask({ op, ...fields, cid: cid ?? randomId() }, `room:${fields.room}`);
  }

  room(room) {
    return this.#ask({ op: "room", room });
  }

  rooms({ after, limit } = {}) {
    return this.#ask({ op: "rooms", after, limit });
  }

  members(room, { after, limit } = {}) {
    return this.#ask({ op: "members", room, after, limit });
  }

  readers(room, seq, { after, limit } = {}) {
    return this.#ask({ op: "readers", room, seq, after, limit });
  }

  presence(users) {
    return this.#ask({ op: "presence", users });
  }

  /** A `presence` event for each change, over reconnects; the answer says how it is now. */
  watch(users) {
    for (const user of users) this.#watched.add(user);
    return this.#watchSome(users);
  }

  async #watchSome(users) {
    const answer = await this.#ask({ op: "presence", users, watch: true });
    for (const user of answer.refused ?? []) this.#watched.delete(user);
    for (const item of answer.items) this.#emit("presence", item);
    return answer;
  }

  unwatch(users) {
    for (const user of users) this.#watched.delete(user);
    return this.#ask({ op: "presence", users, watch: false });
  }

  block(user) {
    return this.#ask({ op: "block", user });
  }

  unblock(user) {
    return this.#ask({ op: "unblock", user });
  }

  blocks({ after, limit } = {}) {
    return this.#ask({ op: "blocks", after, limit });
  }

  /** Something of the moment, such as "typing"; without a connection it is dropped. */
  signal(to, type, body) {
    checkRecipient(to);
    check(isName(type), "type", "must be 1 to 64 letters, digits, _ and -");
    if (this.welcome) this.#write({ op: "signal", to, type, body });
  }

  // ---- Tokens (rule 19)

  #refreshAt(exp) {
    if (typeof this.#options.token !== "function" || exp === undefined) return;
    const left = exp - Date.now() - this.#skew;
    this.#after("refresh", Math.max(1000, left - REFRESH_BEFORE, Math.min(left / 2, REFRESH_BEFORE)), () => this.#refresh(exp));
  }

  async #refresh(exp) {
    const epoch = this.#epoch;
    try {
      const token = await this.#token();
      if (epoch !== this.#epoch) return;
      const answer = await this.#ask({ op: "token", token });
      if (epoch !== this.#epoch) return;
      this.#emit("token", { exp: answer.exp });
      this.#refreshAt(answer.exp);
    } catch (error) {
      if (this.state === "closed") return;
      this.#emit("error", error); // the old one stands; asked again while it does
      if (epoch === this.#epoch && Date.now() + this.#skew < exp) this.#after("refresh", backoff(0, PATIENCE, PATIENCE), () => this.#refresh(exp));
    }
  }
}

/** Makes a client and connects it: resolves with the client when it is welcome. */
export async function connect(options) {
  const client = new Client(options);
  await client.connect();
  return client;
}

function socketUrl(text) {
  try {
    const url = new URL(text);
    url.protocol = { "http:": "ws:", "https:": "wss:" }[url.protocol] ?? url.protocol;
    check(url.protocol === "ws:" || url.protocol === "wss:", "url", "");
    if (url.pathname === "/") url.pathname = "/v1/ws";
    url.hash = "";
    return url.href;
  } catch {
    throw new NatterError("bad_argument", `url: ${JSON.stringify(text)} is no address to connect to, give one like wss://chat.example.org`);
  }
}

const storeError = (error) => new NatterError("store", `what outlives a reload cannot be kept: ${error?.message ?? error}`, { cause: error });
