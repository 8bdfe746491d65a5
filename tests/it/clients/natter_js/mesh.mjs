// natter.js against a mesh of three nodes: run by natter_js.rs, which does what this script asks for ("do: …") and writes how
// often it did something into a file.

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Client, NatterError, connect, fileStore } from "../../../../clients/js/natter.js";

const given = JSON.parse(process.argv[2]);
const { urls, tokens } = given;
const conv = "dm:alice:bob";
let deeds = 0;

/** Waits until `holds`, as `until` of the tests in Rust. */
async function until(what, holds) {
  for (const end = Date.now() + 20_000; !(await holds()); await sleep(5)) assert(Date.now() < end, `in vain: ${what}`);
}

async function deed(words) {
  console.log(`do: ${words}`);
  deeds += 1;
  await until(`${words} is done`, () => existsSync(process.argv[3]) && Number(readFileSync(process.argv[3], "utf8")) === deeds);
}

/** A client that remembers what it heard. */
async function person(user, url, options = {}) {
  const client = new Client({ url, token: tokens[user], device: "js", ...options });
  const heard = { messages: [], receipts: [], signals: [], presence: [], states: [], goodbyes: [], events: [] };
  client.on("message", (message) => heard.messages.push(message));
  client.on("receipt", (receipt) => heard.receipts.push(receipt));
  client.on("signal", (signal) => heard.signals.push(signal));
  client.on("presence", (presence) => heard.presence.push(presence));
  client.on("state", ({ state }) => heard.states.push(state));
  client.on("goodbye", (goodbye) => heard.goodbyes.push(goodbye));
  client.on("member", (event) => heard.events.push(event));
  await client.connect();
  return { client, heard };
}

const bodies = ({ heard }, id = conv) => heard.messages.filter((one) => one.conv === id && !one.kind).map(({ body }) => body);
const seqs = ({ heard }, id = conv) => heard.messages.filter((one) => one.conv === id).map(({ seq }) => seq);
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

const refusedWith = (code) => (error) => error instanceof NatterError && error.code === code;

// Renewed while the rest goes on.
const asked = [given.short, given.long];
const dora = new Client({ url: urls[2], token: () => asked.shift() ?? given.long, device: "js" });
const renewed = [];
const doraStates = [];
dora.on("token", ({ exp }) => renewed.push(exp));
dora.on("state", ({ state }) => doraStates.push(state));
const { exp: firstEnd } = await dora.connect();

const alice = await person("alice", [urls[0], urls[1], urls[2]]);
const bob = await person("bob", urls[2]);

// ---- Order, acknowledgements, read marks, kinds

const sent = await Promise.all(range(1, 30).map((i) => alice.client.send("@bob", i)));
assert.deepEqual(sent.map(({ seq }) => seq), range(1, 30), "written ahead of the answers, stored in the order of writing");
await until("bob has all", () => bodies(bob).length === 30);
assert.deepEqual(bodies(bob), range(1, 30));
await until("alice hears that bob has them", () => alice.heard.receipts.some(({ user, delivered }) => user === "bob" && delivered === 30));
bob.client.read(conv, 30);
await until("alice hears that bob read them", () => alice.heard.receipts.some(({ user, read }) => user === "bob" && read === 30));

await alice.client.edit(conv, 1, "one");
await bob.client.react(conv, 2, "👍");
await alice.client.delete(conv, 3);
await alice.client.send("@bob", "see", { replyTo: 2, mentions: ["bob"], expires: 3600 });
const [first, second, third] = (await bob.client.history(conv, { after: 0, limit: 3 })).messages;
assert.equal(first.body, "one");
assert.deepEqual(second.reactions, [{ reaction: "👍", count: 1, who: ["bob"] }]);
assert.equal(third.deleted, "alice");
await bob.client.unreact(conv, 2, "👍");
const last = (await bob.client.history(conv, { limit: 1 })).messages[0];
assert.deepEqual([last.body, last.reply_to, last.mentions, last.expires > Date.now()], ["see", 2, ["bob"], true]);
const around = await bob.client.history(conv, { around: 10, limit: 10 });
assert.deepEqual(around.messages.map(({ seq }) => seq), range(5, 14));
const back = [];
for await (const page of bob.client.pages(conv, { limit: 7 })) back.unshift(...page);
const forth = [];
for await (const page of bob.client.pages(conv, { after: 0, limit: 7 })) forth.push(...page);
assert.deepEqual(back, forth);
assert.equal(back.length, 31);
const [item] = (await alice.client.conversations()).items;
assert.deepEqual([item.conv, item.peer.read], [conv, 30]);

// ---- Errors that a program can tell apart

await assert.rejects(alice.client.send("bob", 1), refusedWith("bad_argument"));
await assert.rejects(alice.client.send("@bob", undefined), refusedWith("bad_argument"));
await assert.rejects(alice.client.send("@bob", "x".repeat(70_000)), refusedWith("too_large"));
await assert.rejects(alice.client.edit(conv, 2_000, "x"), refusedWith("bad_ref"));
await assert.rejects(alice.client.send("@bob", "other", { cid: sent[0].cid }), refusedWith("cid_reused"));
await assert.rejects(alice.client.room("nowhere"), refusedWith("no_such_room"));
assert.throws(() => new Client({ url: "ftp://x", token: "t" }), refusedWith("bad_argument"));
assert.throws(() => new Client({ url: urls[0], token: "t", device: "a b" }), refusedWith("bad_argument"));
assert.deepEqual(alice.client.outbox, []);
await assert.rejects(connect({ url: urls[0], token: given.expired }), refusedWith("bad_token"));
const nowhere = connect({ url: "ws://127.0.0.1:1", token: tokens.bob, connectTimeout: 300 });
await assert.rejects(nowhere, refusedWith("timeout"));

// ---- Rooms, signals, presence, blocks, sessions

const { room } = await alice.client.createRoom("lab", { topic: "t", history: "all" });
await alice.client.invite(room, "bob");
await until("bob hears of it", () => bob.heard.events.some(({ body }) => body.event === "invited"));
await bob.client.joinRoom(room);
await alice.client.setRole(room, "bob", "moderator");
await bob.client.setTopic(room, "other");
await bob.client.setLifetime(room, 60);
await alice.client.send("#lab", "all");
await until("bob has it", () => bodies(bob, "room:lab").length === 1);
const lab = await bob.client.room(room);
assert.deepEqual([lab.topic, lab.lifetime, lab.role, lab.members], ["other", 60, "moderator", 2]);
assert.deepEqual((await bob.client.members(room)).items.map(({ user }) => user), ["alice", "bob"]);
bob.client.read("room:lab", lab.log.head);
await until("bob's devices hear that he read it", () => bob.heard.receipts.some(({ conv: id, read }) => id === "room:lab" && read === lab.log.head));
const readers = await alice.client.readers(room, lab.log.head);
assert(readers.items.some(({ user }) => user === "bob"));
await alice.client.kick(room, "bob");
await assert.rejects(bob.client.send("#lab", "still here?"), refusedWith("not_member"));
await alice.client.leaveRoom(room);
assert.deepEqual((await bob.client.rooms()).items, []);

alice.client.signal("@bob", "typing", { fast: true });
await until("bob gets the signal", () => bob.heard.signals.some(({ type, body }) => type === "typing" && body.fast));
assert.deepEqual((await alice.client.watch(["bob"])).items, [{ user: "bob", online: true }]);
await bob.client.block("alice");
// Her node hears of it a moment later; what it took until then is stored.
await until("alice is blocked", () => alice.client.send("@bob", "?").then(() => false, refusedWith("blocked")));
assert.deepEqual((await bob.client.blocks()).users, ["alice"]);
await bob.client.unblock("alice");
await until("alice may write again", () => alice.client.send("@bob", "unblocked").then(() => true, (error) => !refusedWith("blocked")(error)));
await until("bob has it", () => bodies(bob).at(-1) === "unblocked");
assert.deepEqual((await alice.client.watch(["bob"])).refused ?? [], []);
const { sessions } = await bob.client.sessions();
assert.deepEqual(sessions.map(({ device }) => device), ["js"]);

// ---- A connection that ends when a message was stored and its answer was not heard yet

let cuts = 3;
class Cut extends WebSocket {
  set onmessage(handler) {
    super.onmessage = (event) => {
      if (cuts > 0 && /"op":"(sent|message)"/.test(event.data)) {
        cuts -= 1;
        super.onmessage = () => {};
        return this.close();
      }
      return handler(event);
    };
  }
}
const carol = await person("carol", urls[1], { WebSocket: Cut });
const lost = await Promise.all(range(1, 5).map((i) => carol.client.send("@bob", i)));
assert.equal(cuts, 0);
assert.deepEqual(lost.map(({ seq }) => seq), range(1, 5), "stored once, in order");
await until("bob has them once", () => bodies(bob, "dm:bob:carol").length === 5);
assert.deepEqual(seqs(bob, "dm:bob:carol"), range(1, 5));
await until("carol has them once", () => seqs(carol, "dm:bob:carol").length === 5);
assert.deepEqual(seqs(carol, "dm:bob:carol"), range(1, 5));

// ---- NATS away, and a node drained under one client and then under another: each goes on at the next address

const before = bodies(bob).length;
let n = before;
const some = () => Promise.all(range(1, 10).map(() => alice.client.send("@bob", (n += 1))));
await deed("kill NATS");
await some();
await deed("start NATS");
await until("bob has what was written while NATS was away", () => bodies(bob).length === n);
const shown = alice.heard.presence.length;
await deed("drain the first node");
await until("alice notices", () => alice.heard.states.includes("reconnecting"));
await some();
await until("bob has what was written while alice had no node", () => bodies(bob).length === n);
await until("alice is at another node", () => alice.client.state === "live" && alice.client.welcome.node !== "n1");
assert(alice.heard.states.includes("reconnecting"));
await until("the watch goes on at the other node", () => alice.heard.presence.length > shown);
if (alice.client.welcome.node === "n3") {
  // The next address after a failure: make it the one that is to be drained.
  alice.client.close();
}
const drained = await person("alice", [urls[1], urls[2]], { device: "drained" });
await deed("drain the first node"); // of those that are left
await until("the node said goodbye", () => drained.heard.goodbyes.some(({ reason }) => reason === "drain"));
await drained.client.send("@bob", (n += 1));
await until("bob has all", () => bodies(bob).length === n);
assert.equal(drained.client.welcome.node, "n3");
assert.deepEqual(bodies(bob).slice(before), range(before + 1, n));
assert.deepEqual(seqs(bob), range(1, seqs(bob).length), "all rows, each once, without holes");

// ---- What is not sent outlives the program

const path = `${given.folder}/outbox.json`;
const offline = new Client({ url: "ws://127.0.0.1:1", token: tokens.carol, store: fileStore(path) });
offline.connect().catch(() => {});
const written = range(6, 9).map((i) => offline.send("@bob", i));
written.forEach((one) => one.catch(() => {}));
await until("they are kept", () => existsSync(path) && JSON.parse(readFileSync(path, "utf8")).items.length === 4);
await offline.close();
await assert.rejects(written[0], refusedWith("closed"));
const told = [];
const again = new Client({ url: urls[2], token: tokens.carol, store: fileStore(path) });
again.on("sent", ({ seq }) => told.push(seq));
await again.connect();
assert.equal(again.device, offline.device, "the store keeps the device");
await until("they were sent", () => told.length === 4);
await until("bob has them", () => bodies(bob, "dm:bob:carol").length === 9);
assert.deepEqual(bodies(bob, "dm:bob:carol"), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
await until("nothing is kept any more", () => JSON.parse(readFileSync(path, "utf8")).items.length === 0);
await again.close();

// ---- Two of one device: the earlier one stays away

const earlier = await person("carol", urls[2], { device: "same" });
const later = await person("carol", urls[2], { device: "same" });
await until("the earlier one is closed", () => earlier.client.state === "closed");
assert.equal(earlier.client.error.code, "replaced");
assert.equal(earlier.client.error.closeCode, 4104);
await until("the later one stays", () => later.client.state === "live");

// ---- The token of the beginning was renewed while the session lived

await until("the token was renewed", () => renewed.length > 0);
assert(renewed[0] > firstEnd);
assert.deepEqual(doraStates, ["connecting", "catching up", "live"], "one connection all the time");

for (const { client } of [alice, bob, carol, drained, earlier, later]) await client.close();
await dora.close();
await assert.rejects(dora.send("@bob", 1), refusedWith("closed"));
console.log("do: end");
