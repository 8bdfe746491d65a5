// natter.js as a program on the command line: what it is told on its standard input it sends, what it gets it writes to its
// standard output, as docs/conform.md says. `natter conform -- node examples/js/client.mjs` puts it through everything.

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { Client } from "../../clients/js/natter.js";

const { NATTER_URL, NATTER_TOKEN_FILE, NATTER_DEVICE } = process.env;
const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

const client = new Client({
  url: NATTER_URL.split(","),
  token: async () => (await readFile(NATTER_TOKEN_FILE, "utf8")).trim(),
  device: NATTER_DEVICE,
});

client.on("message", (message) => tell({ event: "message", ...message }));
client.on("state", ({ state, error }) => {
  if (state !== "closed" || error.code === "closed") return;
  tell({ event: "closed", code: error.closeCode });
  process.stdin.destroy();
});

async function send({ id, to, body }) {
  try {
    const { conv, seq } = await client.send(to, body);
    tell({ event: "sent", id, conv, seq });
  } catch (error) {
    // Of a client that is closed for good nobody knows what became of it.
    if (client.state !== "closed") tell({ event: "refused", id, code: error.code });
  }
}

client.connect().catch(() => {}); // the state says it
for await (const line of createInterface({ input: process.stdin })) send(JSON.parse(line));
await client.close();
