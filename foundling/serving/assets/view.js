// What is seen of a conversation. Texts are set as text; answers are HTML that the server sanitised.

import { hidden, kept, shown, voteOn } from "/assets/conversation.js";
import { call } from "/assets/server.js";
import { marked, spans, unmark } from "/assets/tokens.js";

const PAUSE_MS = 120; // between two renderings of an answer that is being written
const PLACES = ["First", "Second"];
const FINISHES = {
  length: "cut off at the most tokens",
  stopped: "stopped by you",
  edited: "edited by you",
};

export const $ = (id) => document.getElementById(id);
export const made = (template) => $(`${template}-template`).content.firstElementChild.cloneNode(true);
const pause = (milliseconds) => new Promise((go) => setTimeout(go, milliseconds));

const rendered = new WeakMap(); // the HTML of an answer, and the marked text that it was made from

// ------------------------------------------------------------------ rounds

/** The element of a round; `last`: nothing comes after it yet. */
export function roundElement(round, last, raw) {
  const element = made("round");
  element.querySelector(".asked .text").textContent = round.prompt;
  element.classList.toggle("two", round.sides.length > 1);
  element.querySelector(".answers").append(...round.sides.map((_, place) => answerElement(round, place, last, raw)));
  drawVote(element, round, last);
  return element;
}

function drawVote(element, round, last) {
  const vote = voteOn(round);
  const written = round.sides.every((side) => shown(side)?.finish);
  element.querySelector(".vote").hidden = !last || round.sides.length < 2 || !written || Boolean(vote);
  element.querySelector(".voted").textContent = vote ? inWords(vote, round) : "";
}

function inWords({ verdict, stored }, round) {
  const said = { tie: "You found them equally good", both_bad: "You found both bad" };
  const words = said[verdict] ?? `You preferred ${round.sides[verdict].model}`;
  return `${words}. ${stored ? "Your vote is in the database." : "Your vote is kept in this browser; it is part of the export."}`;
}

function answerElement(round, place, last, raw) {
  const side = round.sides[place];
  const element = made("answer");
  element.dataset.side = place;
  const two = round.sides.length > 1;
  const name = hidden(round) ? `${PLACES[place]} answer` : side.model;
  element.querySelector("h2").textContent = hidden(round) || side.chat ? name : `${name} · continues the text`;
  element.setAttribute("aria-label", `Answer of ${name}`);
  element.querySelector(".going-on").hidden = !two || last || place !== round.kept;
  const variants = element.querySelector(".variants");
  variants.hidden = side.answers.length < 2 || !last;
  variants.querySelector("span").textContent = `${side.shown + 1}/${side.answers.length}`;
  drawAnswer(element, round, side, raw);
  return element;
}

/** Draws what changes while an answer is written. */
export function drawAnswer(element, round, side, raw) {
  const answer = shown(side);
  if (!answer) return;
  const busy = !answer.finish && !answer.error;
  element.setAttribute("aria-busy", busy);
  element.querySelector(".tools").hidden = busy;
  const failed = element.querySelector(".failed");
  failed.hidden = !answer.error;
  failed.textContent = answer.error;
  const reasoning = element.querySelector(".reasoning");
  reasoning.hidden = !answer.reasoning;
  reasoning.querySelector(".text").textContent = answer.reasoning;
  element.querySelector(".about").textContent = busy || hidden(round) ? "" : about(answer);
  drawText(element.querySelector(".body"), answer, raw);
}

function about({ finish, usage, seconds, text, error }) {
  const speed = usage && seconds ? `${usage.completion_tokens} tokens, ${(usage.completion_tokens / seconds).toFixed(1)} a second` : "";
  const empty = text || error ? "" : "an empty answer";
  return [empty, speed, FINISHES[finish]].filter(Boolean).join(" · ");
}

// ------------------------------------------------------------------ the text of an answer

function drawText(body, answer, raw) {
  const known = rendered.get(answer);
  const text = document.createElement("div");
  text.dir = "auto";
  text.className = "text";
  if (raw || !known) {
    text.classList.add("raw");
    text.append(...(raw ? spans(answer) : [answer.text]));
  } else {
    text.innerHTML = known.html;
    unmark(text, answer);
    for (const block of text.querySelectorAll("pre")) addCopy(block);
  }
  if (raw) text.tabIndex = 0; // its tokens are walked through by arrow keys
  body.classList.toggle("tinted", raw);
  body.replaceChildren(text);
}

function addCopy(block) {
  const frame = document.createElement("div");
  frame.className = "code";
  const button = Object.assign(document.createElement("button"), { type: "button", className: "quiet", textContent: "Copy" });
  button.addEventListener("click", () => copy(block.textContent, button));
  block.replaceWith(frame);
  frame.append(block, button);
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = Object.assign(document.createElement("textarea"), { value: text }); // pages without HTTPS
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    button.focus();
  }
  const said = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = said), 1500);
}

/** Keeps an answer's HTML up to date until `done()`, and calls `draw` after each change. */
export async function render(answer, draw, done = () => true) {
  for (let last = false; !last; ) {
    last = done();
    const text = marked(answer);
    if (text.trim() && rendered.get(answer)?.text !== text) {
      const { html } = await call("POST", "/page/markdown", { text }).catch(() => ({ html: null }));
      if (html === null) rendered.delete(answer);
      else rendered.set(answer, { text, html });
    }
    draw();
    if (!last) await pause(PAUSE_MS);
  }
}
