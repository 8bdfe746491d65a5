// One message as an element of the list. Called by log.mjs; what can be done with a message is actions.mjs.

import { avatar, element, icon } from "./dom.mjs";
import { textOf } from "./model.mjs";
import { eventWords, partsOf, timeOf } from "./text.mjs";

const TOGETHER = 5 * 60_000; // messages of one person within this time stand together

/** What an element was made from: while that is the same, so is the element. */
const keyOf = ({ seq, changes, edited, deleted, expired, failed, body, reactions }, quoted) =>
  JSON.stringify([seq, changes, edited, deleted, expired, failed, body, reactions, quoted?.changes, quoted?.deleted, quoted?.seq]);

const shown = new WeakMap(); // message → { item, key }

export const itemOf = (message) => shown.get(message)?.item;

/** The element of a message. `on`: what its buttons do. */
export function showMessage(message, me, on) {
  const quoted = message.reply_to && message.conv.bySeq.get(message.reply_to);
  const key = keyOf(message, quoted);
  const known = shown.get(message);
  if (known?.key === key) return known.item;
  const item = known?.item ?? element("li");
  item.message = message;
  fill(item, message, { me, quoted, on });
  shown.set(message, { item, key });
  return item;
}

function fill(item, message, { me, quoted, on }) {
  const { kind, from, conv, failed } = message;
  if (kind === "event") {
    item.className = "event";
    const time = element("time", { dateTime: new Date(message.ts).toISOString() }, timeOf(message.ts));
    item.replaceChildren(element("p", {}, element("span", { className: "text" }, eventWords(message)), " ", time));
    return;
  }
  const own = from === me;
  item.className = own ? "own" : "other";
  item.tabIndex = -1;
  if (message.mentions?.includes(me)) item.classList.add("for-me");
  const bubble = element("div", { className: "bubble" });
  if (!own) bubble.append(element("p", { className: conv.isRoom ? "from" : "from only-read" }, from));
  else bubble.append(element("span", { className: "only-read" }, "You: "));
  if (message.reply_to) bubble.append(quote(message, quoted, on));
  bubble.append(content(message), meta(message, own));
  const reactions = (message.reactions ?? []).filter(({ count }) => count > 0);
  const parts = [bubble];
  if (reactions.length > 0) parts.push(element("div", { className: "reactions" }, ...reactions.map((one) => reaction(message, one, me, on))));
  if (failed) parts.push(failure(message, on));
  const body = element("div", { className: "stack" }, ...parts);
  item.replaceChildren(...(own || !conv.isRoom ? [] : [avatar(from)]), body);
}

function content({ body, mentions, deleted, expired }) {
  if (deleted) return element("p", { className: "text gone" }, "This message was deleted");
  if (expired) return element("p", { className: "text gone" }, "This message has expired");
  const parts = partsOf(textOf(body), mentions).map(({ text, link, mention }) => {
    if (link) return element("a", { href: link, target: "_blank", rel: "noopener noreferrer nofollow" }, text);
    return mention ? element("span", { className: "mention" }, text) : text;
  });
  return element("p", { className: "text" }, ...parts);
}

function meta({ ts, edited, expires }, own) {
  const time = element("time", { dateTime: new Date(ts).toISOString(), title: new Date(ts).toLocaleString() }, timeOf(ts));
  return element("p", { className: "meta" },
    edited ? element("span", { className: "edited" }, "edited") : null,
    expires ? element("span", { className: "edited", title: `disappears ${new Date(expires).toLocaleString()}` }, "disappears") : null,
    time, own ? element("span", { className: "tick" }) : null);
}

function quote({ reply_to }, quoted, on) {
  const gone = quoted?.deleted ? "This message was deleted" : quoted?.expired ? "This message has expired" : undefined;
  const words = quoted ? (gone ?? textOf(quoted.body).slice(0, 200)) : `message ${reply_to}`;
  const button = element("button", { type: "button", className: "quote", title: "Go to this message" },
    element("span", { className: "quote-from" }, quoted?.from ?? "In reply to"), element("span", { className: "quote-text" }, words));
  button.addEventListener("click", () => on.jump(reply_to));
  return button;
}

function reaction(message, { reaction: sign, count, who = [] }, me, on) {
  const mine = who.includes(me);
  const names = who.slice(0, 10).join(", ");
  const button = element("button", {
    type: "button", className: "reaction", title: names, "aria-pressed": String(mine), "aria-label": `${sign}, ${count}: ${names}`,
  }, element("span", {}, sign), " ", element("span", { className: "count" }, String(count)));
  button.addEventListener("click", () => on.react(message, sign, !mine));
  return button;
}

function failure(message, on) {
  const again = element("button", { type: "button", className: "link" }, "Try again");
  const discard = element("button", { type: "button", className: "link" }, "Discard");
  again.addEventListener("click", () => on.again(message));
  discard.addEventListener("click", () => on.discard(message));
  return element("p", { className: "failed" }, `Not sent: ${message.failed} `, again, " ", discard);
}

const TICKS = { sending: ["clock", "sending"], sent: ["check", "sent"], delivered: ["checks", "delivered"], read: ["checks", "read"] };

/** How far one's own message has come. */
export function showTick(message, me) {
  const item = itemOf(message);
  if (!item || message.from !== me || message.kind === "event") return;
  const reached = (mark) => !message.conv.isRoom && message.seq <= message.conv.peerMarks[mark];
  const state = message.failed ? "failed" : message.seq === Infinity ? "sending"
    : reached("read") ? "read" : reached("delivered") ? "delivered" : "sent";
  const tick = item.querySelector(".tick");
  if (item.dataset.tick === state && tick.firstChild) return;
  item.dataset.tick = state;
  const [sign, words] = TICKS[state] ?? [];
  tick.replaceChildren(...(sign ? [icon(sign), element("span", { className: "only-read" }, words)] : []));
  tick.title = words ?? "";
}

/** Whether it stands right under the one before it, without a name of its own. */
export const isJoined = (message, before) =>
  before !== undefined && before.kind === undefined && message.kind === undefined && before.from === message.from &&
  message.ts - before.ts < TOGETHER;
