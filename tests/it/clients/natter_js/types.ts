// A program that uses all of natter.d.ts: checked by tsc, never run.

import {
  Client, NatterError, VERSION, browserDevice, connect, convOf, fileStore, indexedDbStore, isName, memoryStore, randomId, recipientOf,
  userOf, type Events, type Message, type Store,
} from "../../../../clients/js/natter.js";

async function use(): Promise<void> {
  const store: Store = Math.random() < 0.5 ? fileStore("outbox.json") : memoryStore();
  const client = await connect({ url: ["wss://a.example", "wss://b.example"], token: async () => "jwt", store });
  const stop: () => void = client.on("message", ({ conv, seq, from, body, reactions }) => console.log(conv, seq, from, body, reactions?.[0]?.count));
  client.on("state", ({ state, at, error }) => (state === "closed" ? error?.closeCode : at));
  client.on("refused", ({ cid, error }) => console.log(cid, error.code));
  const { seq, cid }: { seq: number; cid: string } = await client.send("@bob", { text: "hi" }, { replyTo: 1, mentions: ["bob"], expires: 60 });
  await client.edit("dm:alice:bob", seq, { text: "ho" }, { cid });
  for await (const page of client.pages("dm:alice:bob", { after: 0 })) page.map(({ seq: at }) => at);
  const { items, next } = await client.rooms({ limit: 10 });
  console.log(items[0]?.log?.unread, next, (await client.members("lab")).items[0]?.role === "owner");
  await client.createRoom(undefined, { public: true, history: "all" });
  client.read("dm:alice:bob", seq);
  client.signal("#lab", "typing");
  stop();
  try {
    await client.joinRoom("lab");
  } catch (error) {
    if (error instanceof NatterError && error.code === "no_such_room") console.log(error.message);
  }
  const own = await browserDevice("alice");
  const other = new Client({ token: "jwt", ...own, client: `program/${VERSION}` });
  await other.connect();
  await other.close();
  const heard: (message: Events["message"]) => Message = (message) => message;
  console.log(heard, convOf("alice", "@bob"), recipientOf("alice", "room:lab"), userOf("jwt"), isName("x"), randomId(), indexedDbStore("x"));
}

void use;
