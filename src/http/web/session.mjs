// Who is signed in on this tab: the token from a link, from a form, or, on a node of `natter dev`, for a name. Called by
// app.mjs.

import { $ } from "./dom.mjs";
import { browserDevice, Client, isName, userOf } from "./natter.js";

const kept = (key) => sessionStorage.getItem(`natter.${key}`);
const keep = (key, value) => sessionStorage.setItem(`natter.${key}`, value);
const forget = (...keys) => keys.forEach((key) => sessionStorage.removeItem(`natter.${key}`));

/** Whom one can write to. `null` and `undefined` are what a script writes into a link when it has no name. */
export function recipientFor(name) {
  const bare = /^[#@]/.test(name ?? "") ? name.slice(1) : name;
  if (!isName(bare) || bare === "null" || bare === "undefined") return null;
  return name[0] === "#" ? name : `@${bare}`;
}

/** Takes token and peer out of the address bar: that ends in bookmarks and screenshots. */
export function readLink() {
  const link = new URLSearchParams(location.hash.slice(1));
  if (link.has("token")) forget("user");
  for (const name of ["token", "peer"]) if (link.has(name)) keep(name, link.get(name));
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
  addEventListener("hashchange", () => location.reload()); // another link pasted into this tab
}

export const peer = () => recipientFor(kept("peer"));
export const keepPeer = (to) => keep("peer", to.replace(/^@/, ""));

/** A client for the token of this tab; `null` when there is none. */
export async function makeClient() {
  const token = kept("token");
  if (!token) return null;
  const user = kept("user") ?? userOf(token) ?? "nobody";
  const { device, store } = await browserDevice(user);
  const client = new Client({ token, device, store, client: "natter page" });
  client.user ??= user;
  const stop = client.on("state", ({ welcome }) => {
    if (!welcome) return;
    stop();
    if (welcome.user === user) return;
    // The node may take the user from another claim: begin again as the one that it named.
    keep("user", welcome.user);
    location.reload();
  });
  return client;
}

export function signIn(token) {
  forget("user");
  keep("token", token);
  location.reload();
}

/** Forgets the person on this tab. The device stays: its next login gets what it has missed, and no more. */
export async function signOut(client) {
  const unsent = client.outbox;
  const question = `${unsent.length} messages are not sent yet and would be lost. Sign out all the same?`;
  if (unsent.length > 0 && !confirm(question)) return;
  unsent.forEach(({ cid }) => client.discard(cid));
  await client.close();
  forget("token", "user", "peer");
  location.reload();
}

/** The forms of the first screen. */
export function listenToForms() {
  $("login").addEventListener("submit", (event) => {
    event.preventDefault();
    signIn($("token").value.trim());
  });
  $("by-name").addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await fetch("v1/dev/token", { method: "POST", body: JSON.stringify({ user: $("name").value.trim() }) }).catch(() => null);
    const said = await answer?.json().catch(() => null);
    if (said?.token) return signIn(said.token);
    $("by-name-fault").textContent = said?.detail ?? "The node does not answer.";
  });
}

/** Shows the first screen. On a node of `natter dev` a name is enough. */
export async function showSignIn(why = "") {
  $("sign-in").hidden = false;
  $("app").hidden = true;
  $("sign-in-why").textContent = why;
  $("token").focus();
  const answer = await fetch("v1/dev").catch(() => null);
  if (!answer?.ok) return;
  $("by-name").hidden = false;
  if (why) return; // it is about the token
  $("token-part").open = false;
  $("name").focus();
}
