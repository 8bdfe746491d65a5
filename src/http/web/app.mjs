// The chat page: signs in, connects, and wires the buttons around the conversations. The rest: session.mjs (who one is),
// chat.mjs (between client and views), model.mjs (what is known), listing.mjs and pieces.mjs (what is asked for), list.mjs, log.mjs,
// message.mjs, composer.mjs, rooms.mjs, search.mjs (what is shown). The connection is natter.js and nothing else.

import { Chat } from "./chat.mjs";
import { $, notice } from "./dom.mjs";
import { offerNotifications } from "./notify.mjs";
import { listenToForms, makeClient, peer, readLink, recipientFor, showSignIn, signOut } from "./session.mjs";

const WORDS = {
  connecting: "Connecting …", "catching up": "Catching up …", live: "Connected", reconnecting: "Connection lost", offline: "No network",
};

const TOKEN_FAULTS = {
  4100: ({ message }) => `The token was refused (${message.replace(/^token: /, "")}). Paste another one.`,
  4101: () => "The token has expired. Paste a new one.",
};

/** The state in the corner and, while there is no connection, above the messages. */
function showState(client, { state, error, at }) {
  $("state").dataset.state = state;
  $("state").textContent = WORDS[state] ?? "Not connected";
  if (client.welcome) $("who").textContent = `${client.user} on ${client.welcome.node}`;
  const away = ["reconnecting", "offline", "closed"].includes(state);
  $("away").hidden = !away;
  $("away-text").textContent = state === "closed" ? `Disconnected: ${error.message}` : `${WORDS[state]}. Messages are sent when it is back.`;
  $("away").dataset.at = at ?? "";
  showWait();
  const fault = TOKEN_FAULTS[error?.closeCode];
  if (state === "closed" && fault) showSignIn(fault(error));
}

function showWait() {
  const at = Number($("away").dataset.at);
  $("away-wait").textContent = at > 0 ? `Next try in ${Math.max(0, Math.ceil((at - Date.now()) / 1000))} s.` : "";
}

/** The composer is off where it leads nowhere. */
function showDoors(chat) {
  const conv = chat.current;
  const outside = conv?.isRoom && conv.room !== null && !conv.room.role;
  $("writing").disabled = !conv || outside;
  $("compose").hidden = !conv || outside;
  $("empty").hidden = conv !== null;
  $("conversation").hidden = conv === null;
  document.querySelector("#app").dataset.view ||= "list";
}

function listen(client, chat) {
  $("open").addEventListener("submit", (event) => {
    event.preventDefault();
    const to = recipientFor($("peer").value.trim());
    if (!to) return notice(`Nobody can be called ${JSON.stringify($("peer").value)}: 1 to 64 letters, digits, _ and -.`);
    $("peer").value = chat.list.filter = "";
    return chat.open(to);
  });
  $("peer").addEventListener("input", () => (chat.list.filter = $("peer").value.trim()));
  $("older").addEventListener("click", () => chat.log.scroller.scrollTo({ top: 0 }));
  $("latest").addEventListener("click", () => chat.latest());
  $("more").addEventListener("click", () => chat.listing.more());
  $("back").addEventListener("click", () => chat.close());
  $("join").addEventListener("click", () => chat.answerInvitation(true));
  $("decline").addEventListener("click", () => chat.answerInvitation(false));
  $("logout").addEventListener("click", () => signOut(client));
  $("skip").addEventListener("click", () => $(chat.current ? "text" : "peer").focus());
  $("now").addEventListener("click", () => (client.state === "closed" ? location.reload() : client.reconnect()));
  $("notice-close").addEventListener("click", () => notice(""));
  $("readers-close").addEventListener("click", () => $("readers").close());
  document.addEventListener("visibilitychange", () => chat.lookedAt());
  chat.onDoors = () => showDoors(chat);
}

async function start() {
  readLink();
  listenToForms();
  const client = await makeClient();
  if (!client) {
    $("state").dataset.state = "no token";
    return showSignIn();
  }
  $("app").hidden = false;
  const chat = new Chat(client);
  listen(client, chat);
  showDoors(chat);
  offerNotifications();
  client.on("state", (event) => showState(client, event));
  setInterval(showWait, 1000);
  const to = peer();
  const welcome = client.connect();
  // What is there can be looked at and written before the node answers.
  if (to?.[0] === "@") chat.open(to);
  else $("peer").focus();
  await welcome;
  if (to?.[0] === "#") chat.open(to);
}

start().catch((error) => console.error(error));
