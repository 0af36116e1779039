// The HTTP interface as the page uses it, and the votes that it has not acknowledged yet.

export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** A JSON call; throws Refused where the server says no, and what fetch throws where it is away. */
export async function call(token, method, path, body) {
  const response = await fetch(`/api/${path}`, {
    method,
    headers: { ...(token && { Authorization: `Bearer ${token}` }), "Content-Type": "application/json" },
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
  });
  if (response.status >= 500) throw new Error(`the server failed (${response.status})`);
  const answer = await response.json();
  if (!response.ok) throw new Refused(response.status, answer.detail);
  return answer;
}

/** A key that nobody else has; crypto.randomUUID is missing where the page is not on HTTPS. */
export function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const pause = (milliseconds) => new Promise((go) => setTimeout(go, milliseconds));

const VOTES = "foundling/vote/";

/**
 * Votes until they are acknowledged, in the browser's own storage: a reload, a crash or a server
 * that is away loses none, and as each has its item's key none counts twice. They are kept by
 * database and name: another database at the same address neither gets nor loses them. A vote
 * that is refused stays, with what was said, until somebody sends it again or discards it.
 */
export class Outbox {
  constructor(database, name, send, { kept, refused, away }) {
    this.prefix = `${VOTES}${database}/${encodeURIComponent(name)}/`;
    Object.assign(this, { send, kept, refused, away, sending: null });
  }

  /** { at, body, refused }, oldest first. */
  entries() {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(this.prefix))
      .map((key) => JSON.parse(localStorage.getItem(key)))
      .filter((entry) => entry !== null) // another tab of the same annotator sends too
      .sort((one, other) => one.at - other.at);
  }

  waiting() {
    return this.entries().filter((entry) => !entry.refused);
  }

  refusals() {
    return this.entries().filter((entry) => entry.refused);
  }

  /** How many votes of this browser are for another database, or by another annotator. */
  others() {
    return Object.keys(localStorage).filter((key) => key.startsWith(VOTES) && !key.startsWith(this.prefix)).length;
  }

  /** The key of the item that a stored vote is on, where it is one of this outbox. */
  itemOf(storageKey) {
    return storageKey?.startsWith(this.prefix) ? storageKey.slice(this.prefix.length) : null;
  }

  write(entry) {
    localStorage.setItem(this.prefix + entry.body.key, JSON.stringify(entry));
  }

  add(body) {
    this.write({ at: Date.now(), body });
    this.flush();
  }

  discard(body) {
    localStorage.removeItem(this.prefix + body.key);
  }

  /** Sends until nothing waits; one at a time, again and again while the server is away. */
  flush() {
    this.sending ??= this.sendAll().finally(() => (this.sending = null));
    return this.sending;
  }

  async sendAll() {
    for (let wait = 250, entry; (entry = this.waiting()[0]) !== undefined; ) {
      try {
        const receipt = await this.send(entry.body);
        this.discard(entry.body);
        this.kept(entry.body, receipt);
        wait = 250;
      } catch (error) {
        if (error instanceof Refused) {
          if (error.status !== 401) this.write({ ...entry, refused: error.message });
          this.refused(entry.body, error);
          if (error.status === 401) return;
          continue;
        }
        this.away();
        await pause(wait);
        wait = Math.min(2 * wait, 4000);
      }
    }
  }
}
