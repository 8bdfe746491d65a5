// Words: what a message says in parts that can be shown, what an event says, days and times. Pure, tested in Node. Used by
// whatever shows something.

const LINK = /\bhttps?:\/\/[^\s<>"']+/gi;
const MENTION = /(^|[^\w@-])@([A-Za-z0-9_-]{1,64})/g;
const CLOSING = /[.,:;!?)\]}'"…]+$/;

/** The parts of a text: `{ text }`, `{ link }` with `text`, `{ mention }`. Nothing in it is ever read as HTML. */
export function partsOf(text, mentions = []) {
  const found = [];
  for (const match of text.matchAll(LINK)) {
    const shown = match[0].replace(CLOSING, "");
    if (URL.canParse(shown)) found.push({ at: match.index, text: shown, link: new URL(shown).href });
  }
  for (const match of text.matchAll(MENTION)) {
    const at = match.index + match[1].length;
    const inLink = found.some((one) => one.link && at >= one.at && at < one.at + one.text.length);
    if (!inLink && mentions.includes(match[2])) found.push({ at, text: `@${match[2]}`, mention: match[2] });
  }
  found.sort((one, other) => one.at - other.at);
  const parts = [];
  let end = 0;
  for (const { at, ...part } of found) {
    if (at > end) parts.push({ text: text.slice(end, at) });
    parts.push(part);
    end = at + part.text.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end) });
  return parts;
}

/** Whom a text names, of those who can be: each once, and 50 at most. */
export function mentionsIn(text, names) {
  const known = new Set(names);
  const all = [...text.matchAll(MENTION)].map((match) => match[2]).filter((name) => known.has(name));
  return [...new Set(all)].slice(0, 50);
}

const ROLES = { owner: "an owner", moderator: "a moderator", member: "a member" };

const SPANS = [["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]];

export function spanOf(seconds) {
  const [unit, size] = SPANS.find(([, size]) => seconds % size === 0);
  return `${seconds / size} ${unit}${seconds === size ? "" : "s"}`;
}

/** What happened in a room. */
export function eventWords({ from, body }) {
  switch (body?.event) {
    case "created": return `${from} created the room`;
    case "joined": return `${from} joined`;
    case "left": return `${from} left`;
    case "invited": return `${from} invited ${body.user}`;
    case "kicked": return `${from} removed ${body.user}`;
    case "role": return `${from} made ${body.user} ${ROLES[body.role] ?? body.role}`;
    case "topic": return body.topic ? `${from} set the topic: ${body.topic}` : `${from} removed the topic`;
    case "lifetime": return body.lifetime ? `${from} set messages to disappear after ${spanOf(body.lifetime)}` : `${from} lets messages stay`;
    default: return `${from} changed the room`;
  }
}

const TIME = new Intl.DateTimeFormat([], { timeStyle: "short" });
const WEEKDAY = new Intl.DateTimeFormat([], { weekday: "long" });
const SHORT = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });
const LONG = new Intl.DateTimeFormat([], { day: "numeric", month: "long", year: "numeric" });

export const timeOf = (ts) => TIME.format(ts);

/** A number for the day of a time, the same for all of that day. */
export function dayOf(ts) {
  const when = new Date(ts);
  return when.getFullYear() * 10_000 + when.getMonth() * 100 + when.getDate();
}

const daysAgo = (ts, now) => Math.round((new Date(now).setHours(0, 0, 0, 0) - new Date(ts).setHours(0, 0, 0, 0)) / 86_400_000);

export function dayWords(ts, now = Date.now()) {
  const ago = daysAgo(ts, now);
  if (ago <= 0) return "Today";
  if (ago === 1) return "Yesterday";
  return ago < 7 ? WEEKDAY.format(ts) : LONG.format(ts);
}

/** For the list: the time today, else the day. */
export function whenWords(ts, now = Date.now()) {
  const ago = daysAgo(ts, now);
  if (ago <= 0) return timeOf(ts);
  return ago === 1 ? "Yesterday" : SHORT.format(ts);
}

export function seenWords({ online, lastSeen }, now = Date.now()) {
  if (online) return "online";
  if (lastSeen === undefined) return online === false ? "offline" : "";
  return `last seen ${daysAgo(lastSeen, now) <= 0 ? `at ${timeOf(lastSeen)}` : whenWords(lastSeen, now)}`;
}
