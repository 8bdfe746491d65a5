// Asks for pieces of logs and puts them into the model: the end, what is older or newer than what is here, and what is around a
// message. Called by chat.mjs.

const PAGE = 50; // messages of one answer
const JUMP_PAGE = 100;

/** Whether a page around the first unread message shows more of them than the end of the log does. */
export const isFarBehind = (conv) => conv.unread > PAGE - 10;

export class Pieces {
  #client;
  #model;
  #ask;
  #loading = new Set(); // "conv direction"

  /** `ask`: a promise; `undefined` when it failed. */
  constructor(client, model, ask) {
    this.#client = client;
    this.#model = model;
    this.#ask = ask;
  }

  /** `older`, `newer` or `fresh` (the end). How many messages came above the others; undefined when nothing was changed. */
  async load(conv, direction) {
    if (conv.isRoom && conv.room && !conv.room.role) return undefined; // only members read
    const key = `${conv.id} ${direction}`;
    if (this.#loading.has(key) || conv.jumps || !this.#client.welcome) return undefined;
    this.#loading.add(key);
    if (direction === "fresh" && !conv.atEnd) this.#model.reset(conv, true);
    const { piece } = conv;
    const top = conv.messages.at(-1)?.seq ?? 0;
    const from = { older: { before: conv.older ?? conv.low }, newer: { after: conv.newer ?? top }, fresh: {} }[direction];
    if (from.before === Infinity) delete from.before;
    const page = await this.#ask(this.#client.history(conv.id, { ...from, limit: PAGE }));
    this.#loading.delete(key);
    if (!page || piece !== conv.piece) return undefined;
    const had = conv.messages.length;
    this.#model.page(conv, page, direction);
    if (direction === "newer" && !page.more) this.#model.joinEnd(conv);
    return conv.messages.length - had;
  }

  /** What is here is left for what is around `seq`. False when there is nothing. */
  async around(conv, seq) {
    const wasAtEnd = conv.atEnd;
    // What comes from now on follows what is loaded; what is asked already is for what was here.
    Object.assign(conv, { atEnd: false, jumps: true, piece: conv.piece + 1 });
    const page = await this.#ask(this.#client.history(conv.id, { around: seq, limit: JUMP_PAGE }));
    conv.jumps = false;
    if (!page || page.messages.length === 0) {
      if (wasAtEnd) this.#model.joinEnd(conv);
      return false;
    }
    this.#model.around(conv, page);
    if (!page.more) this.#model.joinEnd(conv);
    return true;
  }
}
