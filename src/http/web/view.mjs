// What the page shows: state, conversations, messages. Called by app.mjs; says nothing to the node and keeps nothing.

import { me } from "./link.mjs";

export const $ = (id) => document.getElementById(id);

// ---- The state, and what can be done in it

export function notice(text) {
  $("notice").textContent = text;
}

let retryAt = null;
let barred = "The page is starting."; // why nothing can be opened or written; empty when it can
let chosen = false; // whether a conversation is open

/** Whether there is a token that was not refused: what is written while there is no connection is sent later. */
export const canWrite = () => barred === "";

const tokenFault = (state, why, code) => {
  if (state === "no token") return "Paste a token above to begin.";
  if (code === 4100) return `The token was refused (${why.replace(/^token: /, "")}). Paste another one above.`;
  if (code === 4101) return "The token has expired. Paste a new one above.";
  return "";
};

/** The states of link.mjs, and "no token". */
export function showState(state, { at = null, why, code } = {}) {
  barred = tokenFault(state, why, code);
  $("state").dataset.state = state;
  $("state").textContent = why ? `${state}: ${why}` : state;
  $("logout").hidden = state === "no token";
  $("login").hidden = canWrite();
  $("now").hidden = !canWrite() || !["reconnecting", "offline", "closed"].includes(state);
  showDoors();
  if (!canWrite()) $("token").focus();
  retryAt = at;
  showWait();
}

/** The list and the composer are off where they lead nowhere, and the reason stands beside them. */
function showDoors() {
  $("choosing").disabled = !canWrite();
  $("choosing-off").textContent = barred;
  $("writing").disabled = !canWrite() || !chosen;
  $("writing-off").textContent = barred || (chosen ? "" : "Choose somebody to write to first.");
  $("empty").hidden = chosen || !canWrite();
}

export function showWait() {
  $("wait").textContent = retryAt ? `in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s` : "";
}

// ---- Messages

const textOf = (body) => (typeof body === "string" ? body : typeof body?.text === "string" ? body.text : JSON.stringify(body));

/** What happened in a room, in words. */
function wordsOf({ from, body }) {
  const roles = { owner: "an owner", moderator: "a moderator", member: "a member" };
  switch (body?.event) {
    case "created": return `${from} made the room`;
    case "joined": return `${from} joined`;
    case "left": return `${from} left`;
    case "invited": return `${from} invited ${body.user}`;
    case "kicked": return `${from} put ${body.user} out`;
    case "role": return `${from} made ${body.user} ${roles[body.role] ?? body.role}`;
    case "topic": return body.topic ? `${from} set the topic: ${body.topic}` : `${from} removed the topic`;
    case "lifetime": return `${from} lets messages ${body.lifetime ? `last ${body.lifetime} s` : "stay"}`;
    default: return textOf(body);
  }
}

/** What is left of a message, in words; a reply names the place that it is to. */
function said({ body, reply_to, edited, deleted, expired }) {
  if (deleted) return `(deleted by ${deleted})`;
  if (expired) return "(expired)";
  return `${reply_to ? `(to ${reply_to}) ` : ""}${textOf(body)}${edited ? " (edited)" : ""}`;
}

function element(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text; // never as HTML: others wrote it
  return made;
}

function showMessage(message) {
  const when = new Date(message.ts);
  const today = when.toDateString() === new Date().toDateString();
  const isEvent = message.kind === "event";
  const item = message.item ?? element("li", isEvent ? "event" : message.from === me ? "own" : "other");
  const time = element("time", "", when.toLocaleString([], { dateStyle: today ? undefined : "medium", timeStyle: "short" }));
  time.dateTime = when.toISOString();
  const meta = element("div", "meta");
  const sender = element("span", message.conv.to.startsWith("#") ? "from" : "only-read", isEvent ? "" : message.from);
  meta.append(sender, " ", time, " ", element("span", "tick"));
  const reactions = (message.reactions ?? []).filter(({ count }) => count > 0).map(({ reaction, count }) => `${reaction} ${count}`);
  const text = element("div", "text", isEvent ? wordsOf(message) : said(message));
  item.replaceChildren(text, ...(reactions.length > 0 ? [element("div", "reactions", reactions.join(" "))] : []), meta);
  message.item = item;
  item.message = message;
  showTick(message);
}

const TICKS = { sending: "…", sent: "✓", delivered: "✓✓", read: "✓✓" };

export function showTick(message) {
  if (!message.item || message.from !== me || message.kind === "event") return;
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
export function place(message) {
  message.item?.remove();
  delete message.item?.dataset.tick;
  showMessage(message);
  let before = $("messages").lastElementChild;
  while (before && before.message.seq > message.seq) before = before.previousElementSibling;
  if (before) before.after(message.item);
  else $("messages").prepend(message.item);
}

export function showConversation(current) {
  chosen = true;
  showDoors();
  $("log").hidden = false;
  $("title").textContent = current.peer === me ? `${me} (yourself)` : current.peer;
  $("messages").replaceChildren();
  for (const message of [...current.messages.values(), ...current.pending.values()]) place(message);
  $("log").scrollTop = 0;
  $("older").hidden = !current.more;
  showTyping(current);
}

// ---- The list

let listTimer;
let list; // what to show, as it was last asked for

/** Soon, and once for many messages. `open` is called with the peer of the conversation that a person chooses. */
export function showList(convs, current, open) {
  list = [convs, current, open];
  listTimer ??= setTimeout(() => {
    listTimer = undefined;
    const [convs, current, open] = list;
    const recent = [...convs.values()].filter((conv) => conv.ts > 0 || conv === current).sort((one, other) => other.ts - one.ts);
    const rows = recent.map((conv) => showRow(conv, conv === current, open));
    // Only when the order has changed: a button that is put back loses the keyboard's focus.
    if (rows.some((row, i) => row !== $("conversations").children[i])) $("conversations").replaceChildren(...rows);
    const unread = recent.reduce((sum, conv) => sum + Math.max(0, conv.head - conv.read), 0);
    document.title = unread > 0 ? `(${unread}) natter` : "natter";
  }, 50);
}

function showRow(conv, isCurrent, open) {
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
  conv.row.firstChild.ariaCurrent = String(isCurrent);
  conv.row.querySelector(".name").dataset.online = String(conv.online);
  const words = [conv.peer, ...(conv.online ? ["online"] : []), ...(unread > 0 ? [`${unread} unread`] : [])];
  conv.row.firstChild.ariaLabel = words.join(", ");
  return conv.row;
}

export function showTyping(current) {
  $("typing").textContent = current && current.typingUntil > Date.now() ? `${current.typing} is typing …` : "";
}
