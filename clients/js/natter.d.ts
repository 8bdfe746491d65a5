// Types of natter.js. Checked by `tsc` in the tests, with clients/js/check.ts.

export const VERSION: string;

/** Any JSON value. */
export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
/** `@user` or `#room`. */
export type Recipient = `@${string}` | `#${string}`;
/** `dm:<a>:<b>` or `room:<name>`. */
export type Conv = string;
export type Role = "owner" | "moderator" | "member";

export interface Reaction {
  reaction: string;
  count: number;
  /** The first 50 of those who reacted, by name. */
  who?: string[];
}

/** What a room's `event` or a `member` event says. */
export type RoomEvent =
  | { event: "created"; topic?: string; public?: boolean; history?: "join" | "all"; lifetime?: number }
  | { event: "joined" | "left" }
  | { event: "invited" | "kicked"; user: string }
  | { event: "role"; user: string; role: Role }
  | { event: "topic"; topic?: string | null }
  | { event: "lifetime"; lifetime?: number | null };

/** A row of a conversation. `kind` is missing where it is a message. */
export interface Message {
  conv: Conv;
  seq: number;
  kind?: "event" | "edit" | "delete" | "reaction";
  from: string;
  /** Milliseconds since 1970 by the clock of a node: for people, never for order. */
  ts: number;
  cid?: string;
  /** Missing where it was deleted or has expired. */
  body?: Json;
  /** Of an edit, a deletion, a reaction: what it is about. */
  re?: number;
  reply_to?: number;
  mentions?: string[];
  expires?: number;
  expired?: true;
  /** In `history` and lists. */
  edited?: number;
  deleted?: string;
  reactions?: Reaction[];
}

export interface Sent {
  conv: Conv;
  seq: number;
  ts: number;
  cid: string;
}

export interface HistoryPage {
  conv: Conv;
  /** The oldest first. */
  messages: Omit<Message, "conv">[];
  more: boolean;
  next?: number;
}

export interface Conversation {
  conv: Conv;
  head: number;
  ts: number;
  read: number;
  unread: number;
  mentions?: number;
  last?: Omit<Message, "conv">;
  peer?: { delivered?: number; read?: number };
}

export interface Room {
  room: string;
  conv: Conv;
  topic?: string;
  public: boolean;
  history: "join" | "all";
  lifetime?: number;
  created: number;
  members: number;
  role?: Role;
  invited?: true;
  log?: { head: number; ts: number; read: number; unread: number; mentions?: number; last?: Omit<Message, "conv"> };
}

export interface Member {
  user: string;
  /** Missing for those who are only invited. */
  role?: Role;
  since?: number;
}

export interface Presence {
  user: string;
  online?: boolean;
  last_seen?: number;
}

export interface Presences {
  items: Presence[];
  refused?: string[];
}

export interface Sessions {
  devices: { device: string; seen?: number }[];
  sessions: { session: string; device: string; node: string; since: number }[];
}

export interface Changed {
  room: string;
  conv: Conv;
  /** Missing where it was so already. */
  seq?: number;
}

export interface Welcome {
  user: string;
  device: string;
  session: string;
  new?: true;
  node: string;
  ts: number;
  exp: number;
  ping_secs: number;
  limits: { body: number; window: number };
}

export interface Receipt {
  conv: Conv;
  user: string;
  delivered?: number;
  read?: number;
}

export interface Signal {
  conv: Conv;
  from: string;
  type: string;
  body?: Json;
}

/** A message that is not sent yet. */
export interface OutboxItem {
  op: "send" | "edit" | "delete" | "react" | "unreact";
  to?: Recipient;
  conv?: Conv;
  re?: number;
  cid: string;
  body?: Json;
  reaction?: string;
  reply_to?: number;
  mentions?: string[];
  expires?: number;
  /** When it was written, by this machine's clock. */
  at: number;
}

/** The error codes of the protocol, the labels of close codes, and those of this client. */
export type ErrorCode =
  | "bad_frame" | "unknown_op" | "bad_name" | "bad_body" | "too_large" | "rate_limited" | "not_member" | "not_found"
  | "no_such_room" | "room_exists" | "room_full" | "not_allowed" | "last_owner" | "blocked" | "cid_reused" | "bad_ack"
  | "bad_ref" | "unavailable" | "unauthorized" | "unsupported"
  | "gone" | "protocol" | "not_utf8" | "frame_too_large" | "bad_token" | "token_expired" | "violation" | "disconnected" | "replaced"
  | "bad_argument" | "closed" | "discarded" | "gap" | "lost" | "no_websocket" | "store" | "timeout" | "token" | "too_many_waiting"
  | (string & {});

export class NatterError extends Error {
  constructor(code: ErrorCode, message: string, more?: object);
  /** For programs; `message` is for people and may change. */
  readonly code: ErrorCode;
  /** Of a connection that was closed. */
  readonly closeCode?: number;
  /** Of a message that was refused. */
  readonly cid?: string;
}

export type State = "idle" | "connecting" | "catching up" | "live" | "reconnecting" | "offline" | "closed";

export interface Events {
  /** `at`: when the next try is, in milliseconds since 1970. */
  state: { state: State; at?: number; error?: NatterError; welcome?: Welcome };
  /** In the order of `seq`, each once, one's own included. */
  message: Message;
  member: Message;
  receipt: Receipt;
  signal: Signal;
  presence: Presence;
  /** The next message of `conv` has the seq `from`; what lies before it comes by `history`. */
  truncated: { conv: Conv; from: number };
  caughtUp: {};
  goodbye: { reason: string; reconnect_ms: number };
  /** Something of the outbox is durable. */
  sent: Sent & { frame: Omit<OutboxItem, "at"> };
  /** Something of the outbox was refused for good. */
  refused: { frame: Omit<OutboxItem, "at">; cid: string; error: NatterError };
  outbox: OutboxItem[];
  /** The token was renewed. */
  token: { exp: number };
  /** Of what nobody waits for. */
  error: NatterError;
}

/** Where device, `since` and the outbox are kept. Calls take effect in the order in which they are made. */
export interface Store {
  get(key: string): Promise<any>;
  set(key: string, value: unknown): Promise<unknown>;
  /** By `n`, the least first. */
  items(): Promise<StoredItem[]>;
  put(item: StoredItem): Promise<unknown>;
  remove(n: number): Promise<unknown>;
}

export interface StoredItem {
  n: number;
  at: number;
  frame: any;
}

export interface Options {
  /** `wss://…`, `https://…`, or several: after a failure the next one is tried. In a browser: the page's own node. */
  url?: string | string[];
  /** A function is asked before each connection, and a minute before the token ends. */
  token: string | (() => string | Promise<string>);
  /** Kept by the store where it is not given. */
  device?: string;
  /** Default: `memoryStore()`. */
  store?: Store;
  /** Name and version of the program, for the logs of the node. */
  client?: string;
  /** Acknowledge a message when the handlers of `message` have returned. Default: true. */
  autoAck?: boolean;
  /** Default: true. */
  reconnect?: boolean;
  /** Milliseconds until `connect()` gives up; 0, the default: never. */
  connectTimeout?: number;
  /** Where there is no global one. */
  WebSocket?: new (url: string, protocol: string) => any;
}

export interface SendOptions {
  cid?: string;
  replyTo?: number;
  mentions?: string[];
  /** Seconds. */
  expires?: number;
}

export interface Page<T> {
  items: T[];
  next?: string;
}

export class Client {
  constructor(options: Options);
  readonly user: string | undefined;
  readonly device: string | undefined;
  readonly welcome: Welcome | null;
  readonly state: State;
  readonly error: NatterError | null;
  readonly outbox: OutboxItem[];

  on<T extends keyof Events>(type: T, handler: (event: Events[T]) => void): () => void;
  connect(): Promise<Welcome>;
  close(): Promise<void>;
  reconnect(): void;
  check(): void;

  send(to: Recipient, body: Json, options?: SendOptions): Promise<Sent>;
  edit(conv: Conv, re: number, body: Json, options?: { cid?: string }): Promise<Sent>;
  delete(conv: Conv, re: number, options?: { cid?: string }): Promise<Sent>;
  react(conv: Conv, re: number, reaction: string, options?: { cid?: string }): Promise<Sent>;
  unreact(conv: Conv, re: number, reaction: string, options?: { cid?: string }): Promise<Sent>;
  discard(cid: string): void;
  ack(conv: Conv, seq: number): void;
  read(conv: Conv, seq: number): void;
  signal(to: Recipient, type: string, body?: Json): void;

  history(conv: Conv, from?: { before?: number; after?: number; around?: number; limit?: number; raw?: boolean }): Promise<HistoryPage>;
  pages(
    conv: Conv,
    from?: { before?: number; after?: number; limit?: number; raw?: boolean },
  ): AsyncGenerator<HistoryPage["messages"], void, void>;
  conversations(from?: { after?: string; limit?: number }): Promise<Page<Conversation>>;
  sessions(): Promise<Sessions>;
  endSession(which: { session: string } | { device: string }): Promise<{ sessions: string[] }>;

  createRoom(
    room: string | undefined,
    options?: { topic?: string; public?: boolean; history?: "join" | "all"; lifetime?: number; cid?: string },
  ): Promise<Changed>;
  joinRoom(room: string, options?: { cid?: string }): Promise<Changed>;
  leaveRoom(room: string, options?: { cid?: string }): Promise<Changed>;
  invite(room: string, user: string, options?: { cid?: string }): Promise<Changed>;
  kick(room: string, user: string, options?: { cid?: string }): Promise<Changed>;
  setRole(room: string, user: string, role: Role, options?: { cid?: string }): Promise<Changed>;
  setTopic(room: string, topic: string | null, options?: { cid?: string }): Promise<Changed>;
  setLifetime(room: string, lifetime: number | null, options?: { cid?: string }): Promise<Changed>;
  room(room: string): Promise<Room>;
  rooms(from?: { after?: string; limit?: number }): Promise<Page<Room>>;
  members(room: string, from?: { after?: string; limit?: number }): Promise<Page<Member> & { room: string }>;
  readers(
    room: string,
    seq: number,
    from?: { after?: string; limit?: number },
  ): Promise<Page<{ user: string; read: number }> & { room: string; seq: number }>;

  presence(users: string[]): Promise<Presences>;
  watch(users: string[]): Promise<Presences>;
  unwatch(users: string[]): Promise<Presences>;
  block(user: string): Promise<{ user: string; on: boolean }>;
  unblock(user: string): Promise<{ user: string; on: boolean }>;
  blocks(from?: { after?: string; limit?: number }): Promise<{ users: string[]; next?: string }>;
}

/** Makes a client and connects it. */
export function connect(options: Options): Promise<Client>;

export function randomId(): string;
export function isName(text: unknown): text is string;
export function convOf(user: string, to: Recipient): Conv;
export function recipientOf(user: string, conv: Conv): Recipient;
export function userOf(token: string): string | undefined;

export function memoryStore(): Store;
/** In browsers. */
export function indexedDbStore(name: string): Store;
/** In Node. */
export function fileStore(path: string): Store;
/** In browsers: the device of this tab, and its store. */
export function browserDevice(user: string): Promise<{ device: string; store: Store }>;
