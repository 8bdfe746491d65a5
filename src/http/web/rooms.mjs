// Making rooms, and the panel beside the messages: who is in a room, with which role, and what one may change there; of a
// direct conversation, who the other one is. Called by chat.mjs.

import { $, avatar, element, iconButton, notice } from "./dom.mjs";
import { seenWords, spanOf } from "./text.mjs";

const PAGE = 100;
const MOST_MEMBERS = 300; // shown
const LIFETIMES = [3600, 86_400, 604_800, 2_592_000];
const ROLES = ["owner", "moderator", "member"];

const may = {
  change: (room) => room?.role === "owner" || room?.role === "moderator",
  invite: (room) => may.change(room) || (room?.public === true && room.role !== undefined),
  kick: (room, member) => room?.role === "owner" || (room?.role === "moderator" && (member.role ?? "member") === "member"),
};

export class Rooms {
  #client;
  #on;
  #conv = null;
  #members = new Map(); // conv → { all, asked }: those that are known, and the request for how they are now

  /** `on`: open(to), changed(conv), named(conv): other names are known. */
  constructor(client, on) {
    this.#client = client;
    this.#on = on;
    $("new-room").addEventListener("click", () => this.offerToMake(""));
    $("room-cancel").addEventListener("click", () => $("room-dialog").close());
    $("room-lifetime").append(...lifetimeOptions());
    $("room-form").addEventListener("submit", (event) => (event.preventDefault(), this.#make()));
    $("panel-open").addEventListener("click", () => {
      if (!$("panel").hidden) return this.hide();
      this.show();
      $("panel-close").focus();
    });
    $("panel-close").addEventListener("click", () => this.hide());
    $("panel").addEventListener("keydown", (event) => event.key === "Escape" && this.hide());
  }

  // ---- Making and entering

  offerToMake(name, why = "") {
    $("room-form").reset();
    $("room-name").value = name.replace(/^#/, "");
    $("room-why").textContent = why;
    $("room-fault").textContent = "";
    $("room-dialog").showModal();
    $(name ? "room-topic" : "room-name").focus();
  }

  async #make() {
    const topic = $("room-topic").value.trim();
    const lifetime = Number($("room-lifetime").value);
    const options = {
      topic: topic || undefined, public: $("room-public").checked, history: $("room-history").checked ? "all" : "join",
      lifetime: lifetime || undefined,
    };
    try {
      const { room } = await this.#client.createRoom($("room-name").value.trim() || undefined, options);
      $("room-dialog").close();
      this.#on.open(`#${room}`);
    } catch (error) {
      $("room-fault").textContent = error.message;
    }
  }

  /** Enters a room that is public or that one is invited to; offers to make it where there is none. */
  async enter(to) {
    try {
      await this.#client.joinRoom(to.slice(1));
      return true;
    } catch (error) {
      if (error.code === "no_such_room") this.offerToMake(to, `There is no room ${to} that you may enter. Create it?`);
      else notice(error.message);
      return false;
    }
  }

  // ---- What is known of a room

  /** Asks how the room is now. */
  async refresh(conv) {
    try {
      conv.room = await this.#client.room(conv.name.slice(1));
    } catch (error) {
      if (error.code === "no_such_room") conv.room = null;
    }
    // What was known is known until the answer is here: a message that is written meanwhile mentions people all the same.
    if (conv.room?.role) this.#members.set(conv, { all: this.#members.get(conv)?.all ?? [] });
    else this.#members.delete(conv);
    this.#on.changed(conv);
    if (conv === this.#conv) this.#look(conv);
  }

  async #ask(conv) {
    const all = [];
    let after;
    do {
      const page = await this.#client.members(conv.name.slice(1), { after, limit: PAGE });
      all.push(...page.items);
      after = page.next;
    } while (after && all.length < MOST_MEMBERS);
    return all;
  }

  async #membersOf(conv) {
    const known = this.#members.get(conv) ?? { all: [] };
    this.#members.set(conv, known);
    known.asked ??= this.#ask(conv).then((all) => {
      known.all = all;
      if (this.#members.get(conv) === known) this.#on.named(conv);
    });
    try {
      await known.asked;
    } catch (error) {
      known.asked = undefined;
      throw error;
    }
    return known.all;
  }

  /** Who can be mentioned: as far as it is known. */
  names(conv) {
    const all = this.#members.get(conv)?.all ?? [];
    return all.filter(({ role }) => role).map(({ user }) => user);
  }

  open(conv) {
    this.#conv = conv;
    this.#look(conv);
  }

  #look(conv) {
    if (!$("panel").hidden) this.show();
    if (conv.isRoom && conv.room?.role) this.#membersOf(conv).catch(() => {});
  }

  // ---- The panel

  hide() {
    $("panel").hidden = true;
    $("app").dataset.panel = "closed";
    $("panel-open").setAttribute("aria-expanded", "false");
    $("panel-open").focus();
  }

  async show() {
    const conv = this.#conv;
    if (!conv) return;
    $("panel").hidden = false;
    $("app").dataset.panel = "open";
    $("panel-open").setAttribute("aria-expanded", "true");
    $("panel-title").textContent = conv.isRoom ? "Room" : "Person";
    const members = conv.room?.role ? await this.#membersOf(conv).catch(() => []) : [];
    if (conv !== this.#conv) return;
    const head = element("div", { className: "panel-head" }, avatar(conv.name), element("p", { className: "panel-name" }, conv.name));
    $("panel-body").replaceChildren(head, ...(conv.isRoom ? this.#room(conv, members) : this.#person(conv)));
  }

  async #do(conv, act) {
    try {
      await act();
    } catch (error) {
      notice(error.message);
    }
    if (conv.isRoom) await this.refresh(conv);
    else if (conv === this.#conv) this.show();
  }

  #button(conv, label, act, className = "button quiet") {
    const button = element("button", { type: "button", className }, label);
    button.addEventListener("click", () => this.#do(conv, act));
    return button;
  }

  #person(conv) {
    const { user } = this.#client;
    const name = conv.name;
    if (name === user) return [element("p", { className: "soft" }, "Notes to yourself.")];
    const block = this.#button(conv, conv.blocked ? "Unblock" : "Block", async () => {
      await (conv.blocked ? this.#client.unblock(name) : this.#client.block(name));
      conv.blocked = !conv.blocked;
    }, conv.blocked ? "button quiet" : "button danger");
    return [element("p", { className: "soft" }, seenWords(conv)), block];
  }

  #room(conv, members) {
    const { room } = conv;
    if (!room) return [element("p", { className: "soft" }, "You are not in this room.")];
    const name = room.room;
    const facts = [room.public ? "Public: everybody may join" : "Private: by invitation", `${room.members} member${room.members === 1 ? "" : "s"}`];
    if (room.lifetime) facts.push(`Messages disappear after ${spanOf(room.lifetime)}`);
    const parts = [element("p", { className: "soft" }, facts.join(" · ")), this.#topic(conv)];
    if (!room.role) return parts;
    if (may.change(room)) parts.push(this.#lifetime(conv));
    if (may.invite(room)) parts.push(this.#invite(conv));
    parts.push(element("h3", {}, "Members"), element("ul", { className: "members" }, ...members.map((one) => this.#member(conv, one))));
    parts.push(this.#button(conv, "Leave the room", () => this.#client.leaveRoom(name), "button danger"));
    return parts;
  }

  #topic(conv) {
    const { room } = conv;
    if (!may.change(room)) return element("p", {}, room.topic ?? "");
    const input = element("input", { id: "topic", value: room.topic ?? "", maxLength: 250, autocomplete: "off" });
    const form = element("form", { className: "row" }, element("label", {}, "Topic", input), element("button", { className: "button" }, "Save"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#do(conv, () => this.#client.setTopic(room.room, input.value.trim() || null));
    });
    return form;
  }

  #lifetime(conv) {
    const { room } = conv;
    const select = element("select", { id: "lifetime" }, ...lifetimeOptions(room.lifetime));
    select.value = String(room.lifetime ?? 0);
    select.addEventListener("change", () => this.#do(conv, () => this.#client.setLifetime(room.room, Number(select.value) || null)));
    return element("label", {}, "Messages disappear", select);
  }

  #invite(conv) {
    const input = element("input", { id: "invitee", autocomplete: "off", autocapitalize: "none", spellcheck: false, required: true });
    const form = element("form", { className: "row" }, element("label", {}, "Invite somebody", input), element("button", { className: "button" }, "Invite"));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#do(conv, () => this.#client.invite(conv.room.room, input.value.trim().replace(/^@/, "")));
    });
    return form;
  }

  #member(conv, member) {
    const { user, role } = member;
    const name = conv.room.room;
    const row = element("li", {}, avatar(user), element("span", { className: "member-name" }, user));
    const isSelf = user === this.#client.user;
    if (conv.room.role === "owner" && role) {
      const select = element("select", { "aria-label": `Role of ${user}` }, ...ROLES.map((one) => element("option", { value: one }, one)));
      select.value = role;
      select.addEventListener("change", () => this.#do(conv, () => this.#client.setRole(name, user, select.value)));
      row.append(select);
    } else row.append(element("span", { className: "soft" }, role ?? "invited"));
    if (!isSelf && may.kick(conv.room, member)) {
      row.append(iconButton("close", `Remove ${user}`, () => this.#do(conv, () => this.#client.kick(name, user))));
    }
    return row;
  }
}

function lifetimeOptions(current = 0) {
  const all = LIFETIMES.includes(current) || current === 0 ? LIFETIMES : [...LIFETIMES, current];
  return [element("option", { value: "0" }, "never"), ...all.map((one) => element("option", { value: String(one) }, `after ${spanOf(one)}`))];
}
