// Notifications of the system, when a person has permitted them and nobody looks at the page. Called by chat.mjs.

import { $ } from "./dom.mjs";
import { textOf } from "./model.mjs";

const supported = typeof Notification !== "undefined";

function showDoor() {
  $("notify").hidden = !supported || Notification.permission !== "default";
}

export function offerNotifications() {
  showDoor();
  $("notify").addEventListener("click", async () => {
    await Notification.requestPermission();
    showDoor();
  });
}

/** A direct message, or one in a room that mentions the user. `open` shows it. */
export function notifyOf(conv, frame, me, open) {
  if (!supported || Notification.permission !== "granted" || document.visibilityState === "visible") return;
  if (frame.from === me || frame.kind !== undefined || (conv.isRoom && !frame.mentions?.includes(me))) return;
  const title = conv.isRoom ? `${frame.from} in ${conv.name}` : frame.from;
  try {
    const shown = new Notification(title, { body: textOf(frame.body).slice(0, 200), tag: conv.id });
    shown.onclick = () => (window.focus(), open(), shown.close());
  } catch {
    // Some phones only let service workers do it; the count in the title is there all the same.
  }
}
