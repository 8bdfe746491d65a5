// What the chat page knows and says, in Node: its model and its words. The modules import natter.js from beside them, where a
// node serves it.

import assert from "node:assert/strict";
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

const root = new URL("../../../../", import.meta.url);
const folder = mkdtempSync(join(tmpdir(), "natter-page-"));
process.on("exit", () => rmSync(folder, { recursive: true }));
for (const name of ["src/http/web/model.mjs", "src/http/web/text.mjs", "clients/js/natter.js"]) {
  copyFileSync(new URL(name, root), join(folder, name.split("/").at(-1)));
}
copyFileSync(new URL("clients/js/package.json", root), join(folder, "package.json"));
const { Model, textOf } = await import(join(folder, "model.mjs"));
const { dayWords, eventWords, mentionsIn, partsOf, seenWords, spanOf } = await import(join(folder, "text.mjs"));

const conv = "dm:alice:bob";
const row = (seq, more = {}) => ({ op: "message", conv, seq, from: "bob", ts: 1000 + seq, cid: `c${seq}`, body: { text: `m${seq}` }, ...more });
const seqs = (known) => known.messages.map(({ seq }) => seq);

test("links and mentions are parts, everything else is text", () => {
  const parts = partsOf("see https://example.org/a_(b)?x=1&y=2, @bob or @eve <b>!</b>", ["bob"]);
  assert.equal(parts.map(({ text }) => text).join(""), "see https://example.org/a_(b)?x=1&y=2, @bob or @eve <b>!</b>");
  assert.deepEqual(parts.filter(({ link }) => link).map(({ text }) => text), ["https://example.org/a_(b)?x=1&y=2"]);
  assert.deepEqual(parts.filter(({ mention }) => mention).map(({ text }) => text), ["@bob"]);
  for (const text of ["javascript:alert(1)", "data:text/html,x", "https://", "ftp://a.b/c", "//a.b"]) {
    assert.deepEqual(partsOf(text).filter(({ link }) => link), [], text);
  }
  assert.deepEqual(partsOf("a@bob.org @bob", ["bob"]).filter(({ mention }) => mention).length, 1);
  assert.deepEqual(mentionsIn("@bob @eve @bob a@carol", ["bob", "carol"]), ["bob"]);
});

test("words for days, spans, events and people", () => {
  const now = new Date(2026, 5, 10, 12).getTime();
  assert.equal(dayWords(now, now), "Today");
  assert.equal(dayWords(new Date(2026, 5, 9, 23, 59).getTime(), now), "Yesterday");
  assert.match(dayWords(new Date(2025, 5, 9).getTime(), now), /2025/);
  assert.deepEqual([spanOf(3600), spanOf(172_800), spanOf(61)], ["1 hour", "2 days", "61 seconds"]);
  assert.equal(eventWords({ from: "a", body: { event: "role", user: "b", role: "owner" } }), "a made b an owner");
  assert.equal(eventWords({ from: "a", body: { event: "of a later version" } }), "a changed the room");
  assert.deepEqual([seenWords({ online: true }), seenWords({ online: false }), seenWords({})], ["online", "offline", ""]);
  assert.deepEqual([textOf("a"), textOf({ text: "b" }), textOf({ c: 1 }), textOf(undefined)], ["a", "b", '{"c":1}', ""]);
});

test("what comes is counted until it is read, here or elsewhere", () => {
  const model = new Model("alice");
  for (const seq of [1, 2, 3]) model.live(row(seq, seq === 2 ? { mentions: ["alice"] } : {}));
  const known = model.conv(conv);
  assert.deepEqual([known.unread, known.mentions, known.last.body.text], [3, 1, "m3"]);
  assert.equal(model.readTo(known, 2), true);
  assert.deepEqual([known.unread, known.mentions], [1, 0]);
  model.live(row(4, { kind: "edit", re: 3, body: { text: "other" } }));
  assert.deepEqual([known.unread, known.head, known.last.body.text, seqs(known)], [1, 4, "other", [1, 2, 3]]);
  model.live(row(5, { from: "alice" }));
  assert.equal(known.unread, 0, "one's own message says that one has seen the others");
  model.listed(known, { head: 3, ts: 1, read: 0, unread: 3 });
  assert.equal(known.unread, 0, "an older answer changes nothing");
});

test("edits, deletions and reactions change their message, however often they come", () => {
  const model = new Model("alice");
  model.live(row(1));
  const [message] = model.conv(conv).messages;
  const set = row(2, { kind: "reaction", re: 1, body: { reaction: "👍", set: true } });
  model.live(set);
  model.live(set);
  assert.deepEqual(message.reactions, [{ reaction: "👍", count: 1, who: ["bob"] }]);
  model.live(row(3, { kind: "reaction", re: 1, body: { reaction: "👍", set: false } }));
  assert.deepEqual(message.reactions, []);
  model.live(row(5, { kind: "edit", re: 1, body: "late", ts: 50 }));
  model.live(row(4, { kind: "edit", re: 1, body: "early", ts: 40 }));
  assert.equal(message.body, "late");
  model.live(row(6, { kind: "delete", re: 1 }));
  model.live(row(7, { kind: "edit", re: 1, body: "back", ts: 70 }));
  assert.deepEqual([message.body, message.deleted], [undefined, "bob"]);
});

test("a piece of the log has no holes, and joins the end when it reaches it", () => {
  const model = new Model("alice");
  const known = model.conv(conv);
  for (const seq of [98, 99, 100]) model.live(row(seq));
  // Somebody jumps to an old message; meanwhile others come.
  known.atEnd = false;
  model.live(row(101));
  model.around(known, { messages: [40, 41, 42].map((seq) => row(seq)), more: true, next: 42 });
  model.live(row(102));
  assert.deepEqual(seqs(known), [40, 41, 42]);
  model.page(known, { messages: [43, 44].map((seq) => row(seq)), more: true, next: 44 }, "newer");
  model.page(known, { messages: [38, 39].map((seq) => row(seq)), more: true, next: 38 }, "older");
  assert.deepEqual([seqs(known), known.low, known.older, known.newer], [[38, 39, 40, 41, 42, 43, 44], 38, 38, 44]);
  model.page(known, { messages: [45, 100, 101].map((seq) => row(seq)), more: false }, "newer");
  model.joinEnd(known);
  assert.deepEqual(seqs(known).slice(-3), [100, 101, 102]);
  assert.equal(known.backlog.length, 0);
});

test("the first message of a conversation that was empty is shown", () => {
  const model = new Model("alice");
  const known = model.conv(conv);
  model.page(known, { messages: [], more: false }, "fresh");
  for (const seq of [1, 2]) model.live(row(seq));
  assert.deepEqual([seqs(known), known.low], [[1, 2], 1]);
});

test("what a device missed makes no hole beside the end of the log", () => {
  const model = new Model("alice");
  const known = model.conv(conv);
  for (const seq of [1, 2]) model.live(row(seq));
  model.page(known, { messages: [50, 51].map((seq) => row(seq)), more: true, next: 50 }, "fresh");
  for (const seq of [3, 50, 51, 52]) model.live(row(seq));
  assert.deepEqual([seqs(known), known.low, known.more], [[50, 51, 52], 50, true]);
});

test("a message on its way is one message, whichever way it turns out to be stored", () => {
  const model = new Model("alice");
  const item = { op: "send", to: "@bob", cid: "x", body: { text: "hi" }, at: 5 };
  const known = model.pend(item);
  model.pend(item);
  assert.equal(known.pending.length, 1);
  model.settle(item, { conv, seq: 1, ts: 7 });
  model.live(row(1, { from: "alice", cid: "x", body: { text: "hi" } }));
  assert.deepEqual([known.pending.length, seqs(known)], [0, [1]]);
  // Others may choose the same cid.
  model.pend({ ...item, cid: "y" });
  model.live(row(2, { cid: "y" }));
  assert.equal(known.pending.length, 1);
  model.fail({ to: "@bob", cid: "y" }, "blocked");
  assert.equal(known.pending[0].failed, "blocked");
  model.discard(known, "y");
  assert.deepEqual(known.pending, []);
});

test("what is kept of a long conversation is bounded, the end stays", () => {
  const model = new Model("alice");
  for (let seq = 1; seq <= 12_100; seq += 1) model.live(row(seq));
  const known = model.conv(conv);
  assert.deepEqual([known.messages.length, known.bySeq.size, known.low, known.more], [12_000, 12_000, 101, true]);
});
