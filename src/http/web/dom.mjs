// Making elements. Text is only ever set as text: nothing that somebody wrote is read as HTML.

export const $ = (id) => document.getElementById(id);

/** `element("li", { className: "own" }, "text", child)`. */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key === "dataset") Object.assign(made.dataset, value);
    else if (key.startsWith("aria-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";

/** An icon of index.html's sheet. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

export function iconButton(name, label, act) {
  const button = element("button", { type: "button", className: "icon-button", title: label, "aria-label": label }, icon(name));
  button.addEventListener("click", act);
  return button;
}

const COLOURS = 8;

/** A circle with an initial, always the same colour for a name. */
export function avatar(name) {
  const bare = name.replace(/^#/, "");
  const hash = [...bare].reduce((sum, letter) => Math.imul(sum ^ letter.codePointAt(0), 16_777_619), 0x811c9dc5) >>> 0;
  const isRoom = name.startsWith("#");
  const text = isRoom ? "#" : bare.slice(0, 1).toUpperCase();
  const className = `avatar colour-${(hash >>> 13) % COLOURS}${isRoom ? " of-room" : ""}`;
  return element("span", { className, "aria-hidden": "true" }, text);
}

let noticeTimer;

/** Something that a person should know, for a while. */
export function notice(text) {
  clearTimeout(noticeTimer);
  $("notice-text").textContent = text;
  $("notice").hidden = text === "";
  if (text) noticeTimer = setTimeout(() => notice(""), 12_000);
}

/** Runs `act` once soon, however often it is asked for. */
export function soon(act) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    const run = () => ((asked = false), act());
    // A page that nobody sees draws no frames, but its title still counts.
    if (document.visibilityState === "visible") requestAnimationFrame(run);
    else setTimeout(run, 50);
  };
}
