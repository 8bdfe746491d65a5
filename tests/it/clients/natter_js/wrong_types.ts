// Four mistakes that the types are there to find.

import { Client } from "../../../../clients/js/natter.js";

const client = new Client({ url: "wss://a.example" });
void client.send("bob", "hi");
client.on("massage", () => {});
client.on("message", ({ body, text }) => console.log(body, text));
