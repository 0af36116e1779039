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
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
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

/**
 * Votes until they are acknowledged, in the browser's own storage: a reload, a crash or a server
 * that is away loses none, and as each has its item's key none counts twice.
 */
export class Outbox {
  constructor(name, send, { kept, refused, away }) {
    this.prefix = `foundling/vote/${encodeURIComponent(name)}/`;
    Object.assign(this, { send, kept, refused, away, sending: null });
  }

  /** Oldest first. */
  entries() {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(this.prefix))
      .map((key) => JSON.parse(localStorage.getItem(key)))
      .filter((entry) => entry !== null) // another tab of the same annotator sends too
      .sort((one, other) => one.at - other.at)
      .map((entry) => entry.body);
  }

  add(body) {
    localStorage.setItem(this.prefix + body.key, JSON.stringify({ at: Date.now(), body }));
    return this.flush();
  }

  /** Sends until nothing is left; one at a time, again and again while the server is away. */
  flush() {
    this.sending ??= this.sendAll().finally(() => (this.sending = null));
    return this.sending;
  }

  async sendAll() {
    for (let wait = 250, body; (body = this.entries()[0]) !== undefined; ) {
      try {
        const receipt = await this.send(body);
        this.drop(body);
        this.kept(body, receipt);
        wait = 250;
      } catch (error) {
        if (error instanceof Refused && error.status === 401) return this.refused(body, error);
        if (error instanceof Refused) {
          this.drop(body);
          this.refused(body, error);
          continue;
        }
        this.away();
        await pause(wait);
        wait = Math.min(2 * wait, 4000);
      }
    }
  }

  drop(body) {
    localStorage.removeItem(this.prefix + body.key);
  }
}
