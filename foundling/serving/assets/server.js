// The server as the page uses it: its models, answers as they are written, Markdown made safe.

const KEY = "foundling/key"; // of the browser's session: gone when the tab is closed

export const apiKey = () => sessionStorage.getItem(KEY) ?? "";
export const setApiKey = (key) => sessionStorage.setItem(KEY, key);

/** What went wrong, in words for the person. */
export class Failure extends Error {
  constructor(said, status = 0) {
    super(said);
    this.status = status;
  }
}

async function request(method, path, body, signal) {
  const headers = { "Content-Type": "application/json" };
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  let response;
  try {
    response = await fetch(path, { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" });
  } catch (error) {
    throw lost(error, "The server cannot be reached. Is it still running?");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  const said = answer?.error?.message ?? answer?.detail ?? `The server failed (${response.status}).`;
  const wait = response.headers.get("Retry-After");
  throw new Failure(wait ? `${said} Try again in ${wait} s.` : said, response.status);
}

const lost = (error, said) => (error.name === "AbortError" ? error : new Failure(said));

/** A call whose answer is JSON. */
export const call = async (method, path, body) => (await request(method, path, body)).json();

/**
 * An answer as it is written: { text, reasoning, tokens, finish, usage }, each where there is one.
 * A token is [its name, its text, its log-probability, [[name, log-probability] of the likeliest]].
 */
export async function* answered(chat, body, signal) {
  const path = chat ? "/v1/chat/completions" : "/v1/completions";
  const probabilities = chat ? { logprobs: true, top_logprobs: 5 } : { logprobs: 5 };
  const all = { ...body, ...probabilities, stream: true, stream_options: { include_usage: true } };
  const response = await request("POST", path, all, signal);
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true }); // a character may be several tokens
  const textOf = (bytes) => decoder.decode(Uint8Array.from(bytes), { stream: true });
  for await (const event of events(response)) {
    if (event.error) throw new Failure(event.error.message);
    const [choice] = event.choices ?? [];
    const tokens = choice?.logprobs ? (chat ? chatTokens : textTokens)(choice.logprobs) : [];
    yield {
      text: choice?.delta?.content ?? choice?.text ?? "",
      reasoning: choice?.delta?.reasoning_content ?? "",
      tokens: tokens.map(([name, bytes, ...figures]) => [name, textOf(bytes), ...figures]),
      finish: choice?.finish_reason,
      usage: event.usage,
    };
  }
}

const chatTokens = ({ content }) =>
  content.map(({ token, bytes, logprob, top_logprobs: top }) => [
    token,
    bytes ?? [],
    logprob,
    top.map((one) => [one.token, one.logprob]),
  ]);

const textTokens = ({ tokens, token_logprobs: logprobs, top_logprobs: top }) =>
  tokens.map((token, place) => [token, bytesOf(token), logprobs[place], Object.entries(top[place])]);

/** A token that is no whole character is named by its bytes: bytes:\xe2\x80. */
const bytesOf = (name) =>
  name.startsWith("bytes:\\x")
    ? name.slice(8).split("\\x").map((byte) => parseInt(byte, 16))
    : new TextEncoder().encode(name);

/** The JSON objects of a stream of server-sent events, until its [DONE]. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let held = ""; ; ) {
    const { value, done } = await reader.read().catch((error) => {
      throw lost(error, "The connection to the server was lost.");
    });
    if (done) throw new Failure("The server ended the answer before it was finished.");
    const blocks = (held + value).split(/\r?\n\r?\n/);
    held = blocks.pop();
    for (const block of blocks) {
      const data = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      const content = data.map((line) => line.slice(5).trim()).join("\n");
      if (content === "[DONE]") return;
      if (content) yield JSON.parse(content);
    }
  }
}
