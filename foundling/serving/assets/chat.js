// The chat: what a person does, and what happens then.

import * as Conversation from "/assets/conversation.js";
import { answered, apiKey, call, Failure, setApiKey } from "/assets/server.js";
import { bind, change, sampling, seedAfter, settings } from "/assets/settings.js";
import { showCard } from "/assets/tokens.js";
import { $, copy, drawAnswer, made, render, roundElement } from "/assets/view.js";

const { hidden, kept, shown } = Conversation;
let conversation = Conversation.load();
let server = { models: [], votes: false };
const TEXT = { max_tokens: 256 }; // of texts, which may never end by themselves
let writing = null; // what stops the answers that are being written

const modelOf = (id) => server.models.find((model) => model.id === id);
const chosen = () =>
  [settings.first, settings.second]
    .map(modelOf)
    .filter(Boolean)
    .map((model) => ({ ...model, chat: model.chat && !settings.continues }));

// ------------------------------------------------------------------ the page

function drawRound(index) {
  const round = conversation.rounds[index];
  if (!round) return; // of a conversation that is no longer shown
  const element = roundElement(round, index === conversation.rounds.length - 1, settings.raw);
  keepingEnd(() => {
    const old = $("rounds").children[index];
    if (old) old.replaceWith(element);
    else $("rounds").append(element);
  });
  round.sides.forEach((side, place) => {
    if (shown(side)?.finish) render(shown(side), () => redraw(index, place));
  });
}

function redraw(index, place) {
  const element = $("rounds").children[index]?.querySelector(`[data-side="${place}"]`);
  const round = conversation.rounds[index];
  if (element) keepingEnd(() => drawAnswer(element, round, round.sides[place], settings.raw));
}

/** Changes the page; whoever reads its end goes on reading its end. */
function keepingEnd(draw) {
  const page = document.documentElement;
  const atEnd = page.scrollHeight - innerHeight - scrollY < 60;
  draw();
  if (atEnd) scrollTo(0, page.scrollHeight);
  if (!document.querySelector(".token.current")) showCard($("card"), null);
}

function draw() {
  $("rounds").replaceChildren();
  conversation.rounds.forEach((_, index) => drawRound(index));
  drawAround();
}

/** Draws all that is not the conversation. */
function drawAround() {
  const models = chosen();
  const bases = models.filter((model) => !model.chat);
  document.body.dataset.state = writing ? "writing" : models.length ? "ready" : "loading";
  $("empty").hidden = conversation.rounds.length > 0 || models.length === 0;
  $("empty").querySelector("h2").textContent = bases.length === models.length ? "Begin a text" : "Ask something";
  $("about").textContent = bases.length
    ? `${bases.map((model) => model.id).join(" and ")} will not answer but continue the text, as base models do, by up to ${TEXT.max_tokens} tokens at a time unless the settings say otherwise. Your turns and its own are its paragraphs.`
    : `${models.map((model) => model.id).join(" and ")} will answer. Point at a word, or tap it, to see how probable it was.`;
  $("system-hint").hidden = bases.length === 0;
  $("blind-label").hidden = models.length < 2;
  $("probabilities").setAttribute("aria-pressed", settings.raw);
  $("message").placeholder = bases.length && bases.length === models.length ? "Write the beginning of a text" : "Write a message";
  $("send").hidden = Boolean(writing);
  $("stop").hidden = !writing;
  $("send").disabled = models.length === 0 || !$("message").value.trim();
  $("context").textContent = contexts();
}

function contexts() {
  const round = conversation.rounds.at(-1);
  const used = (round?.sides ?? []).filter((side) => shown(side)?.usage).map((side) => {
    const count = shown(side).usage.total_tokens.toLocaleString("en-US");
    const most = modelOf(side.model)?.context;
    return hidden(round) || !most ? `${count} tokens` : `${count} of ${most.toLocaleString("en-US")} tokens`;
  });
  return used.length ? `Context: ${used.join(" · ")}` : "";
}

function tell(words, does = "Dismiss", then = () => {}) {
  $("notice").hidden = false;
  $("notice").querySelector("p").textContent = words;
  const button = $("notice").querySelector("button");
  button.textContent = does;
  button.onclick = () => {
    $("notice").hidden = true;
    then();
  };
}

// ------------------------------------------------------------------ answers

/** Runs what writes answers; one thing at a time. */
async function run(job) {
  writing = new AbortController();
  $("notice").hidden = true;
  drawAround();
  try {
    await job(writing.signal);
  } finally {
    writing = null;
    drawAround();
    keep();
  }
}

function keep() {
  if (!Conversation.save(conversation)) tell("This conversation is too long to be kept whole across a reload. Export it.");
}

/** Writes one more answer of a side; whether that succeeded. */
async function write(index, place, signal) {
  const sides = conversation.rounds[index].sides;
  const side = sides[place];
  const others = sides.reduce((sum, one) => sum + one.answers.length, 0); // no two with one seed
  const answer = { text: "", reasoning: "", tokens: [], finish: null, usage: null, seconds: 0, error: "" };
  Object.assign(answer, { seed: seedAfter(others), sampling: sampling() });
  Conversation.add(side, answer);
  drawRound(index);
  const turns = Conversation.messages(conversation, index);
  const prompt = side.chat ? { messages: turns } : { prompt: Conversation.textOf(turns) };
  const began = performance.now();
  let finish = null;
  let over = false;
  const rendering = render(answer, () => redraw(index, place), () => over);
  try {
    const body = { model: side.model, ...(side.chat ? {} : TEXT), ...prompt, ...answer.sampling, seed: answer.seed };
    for await (const part of answered(side.chat, body, signal)) {
      answer.text += part.text;
      answer.reasoning += part.reasoning;
      answer.tokens.push(...part.tokens);
      answer.usage = part.usage ?? answer.usage;
      finish = part.finish ?? finish;
    }
  } catch (error) {
    if (error.name === "AbortError") finish = "stopped";
    else if (error instanceof Failure) failed(answer, error);
    else throw error;
  } finally {
    over = true;
  }
  await rendering;
  Object.assign(answer, { finish, seconds: (performance.now() - began) / 1000 });
  drawRound(index);
  $("status").textContent = answer.error || "The answer is finished.";
  return !answer.error;
}

function failed(answer, error) {
  answer.error = error.message;
  if (error.status === 401) askForKey();
}

/** Writes the answers of these rounds, one after the other, as each is part of the next one's prompt. */
async function writeFrom(index, signal) {
  conversation.rounds.slice(index).forEach(Conversation.clear);
  draw();
  for (; index < conversation.rounds.length && !signal.aborted; index++) {
    const sides = conversation.rounds[index].sides;
    const written = await Promise.all(sides.map((_, place) => write(index, place, signal)));
    if (written.includes(false)) return;
  }
}

function send() {
  const prompt = $("message").value;
  if (writing || !prompt.trim() || chosen().length === 0) return;
  if (conversation.rounds.length === 0) conversation.system = settings.system.trim();
  $("message").value = "";
  conversation.rounds.push(Conversation.newRound(prompt, chosen(), settings.blind));
  run(async (signal) => {
    const index = conversation.rounds.length - 1;
    if (index > 0) drawRound(index - 1); // it is no longer the last
    await writeFrom(index, signal);
  });
  scrollTo(0, document.documentElement.scrollHeight);
}

const again = (index, place) =>
  run(async (signal) => {
    if ((await write(index, place, signal)) && !signal.aborted) await writeFrom(index + 1, signal);
  });

/** Ask something else at this place; the chosen models answer it and what came after it. */
const askInstead = (index, prompt) =>
  run((signal) => {
    const later = conversation.rounds.slice(index + 1).map((round) => round.prompt);
    const asked = [prompt, ...later].map((text) => Conversation.newRound(text, chosen(), settings.blind));
    conversation.rounds.splice(index, asked.length, ...asked);
    return writeFrom(index, signal);
  });

const answerInstead = (index, place, text) =>
  run((signal) => {
    const side = conversation.rounds[index].sides[place];
    const edited = { ...shown(side), text, tokens: [], finish: "edited", usage: null, error: "" };
    Conversation.add(side, edited);
    drawRound(index);
    return writeFrom(index + 1, signal);
  });

// ------------------------------------------------------------------ what is done to a round

const ACTIONS = {
  edit: (index, place, button) => {
    const { prompt } = conversation.rounds[index];
    edit(button.closest(".asked"), prompt, index, (text) => askInstead(index, text));
  },
  "edit-answer": (index, place, button) => {
    const answer = shown(conversation.rounds[index].sides[place]);
    edit(button.closest(".answer").querySelector(".body"), answer?.text ?? "", index, (text) => answerInstead(index, place, text));
  },
  again,
  copy: (index, place, button) => copy(shown(conversation.rounds[index].sides[place])?.text ?? "", button),
  earlier: (index, place) => turn(index, place, -1),
  later: (index, place) => turn(index, place, 1),
  cancel: (index) => drawRound(index),
};

function turn(index, place, by) {
  const side = conversation.rounds[index].sides[place];
  side.shown = (side.shown + by + side.answers.length) % side.answers.length;
  drawRound(index);
  keep();
  const name = by < 0 ? "earlier" : "later";
  $("rounds").children[index].querySelector(`[data-side="${place}"] [data-do=${name}]`).focus();
}

function edit(element, text, index, then) {
  const form = made("editor");
  const field = form.querySelector("textarea");
  field.value = text;
  const later = conversation.rounds.length - index - 1;
  form.querySelector(".hint").textContent = later ? `${later} later turn${later > 1 ? "s" : ""} will be redone.` : "";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (field.value.trim() && !writing) then(field.value);
  });
  element.replaceChildren(form);
  field.focus();
}

async function vote(index, verdict) {
  const round = conversation.rounds[index];
  const cast = { verdict, answers: round.sides.map((side) => side.shown), stored: server.votes };
  const answers = round.sides.map((side) => {
    const { text, seed, finish } = shown(side);
    return { model: side.model, text, seed: finish === "edited" ? null : seed };
  });
  const [first, second] = round.sides.map((side) => shown(side).sampling);
  const body = {
    annotator: settings.annotator || "me",
    prompt: Conversation.messages(conversation, index),
    answers,
    sampling: JSON.stringify(first) === JSON.stringify(second) ? first : { first, second },
    verdict: ["first", "second"][verdict] ?? verdict,
  };
  try {
    if (server.votes) await call("POST", "/page/votes", body);
  } catch (error) {
    return tell(`Your vote is not kept. ${error.message}`);
  }
  round.votes.push(cast);
  if (typeof verdict === "number") round.kept = verdict;
  drawRound(index);
  drawAround();
  keep();
  $("message").focus();
}

$("rounds").addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  const round = button?.closest(".round");
  if (!round || writing) return;
  const index = [...$("rounds").children].indexOf(round);
  const { do: does, vote: verdict } = button.dataset;
  if (verdict !== undefined) vote(index, verdict.length === 1 ? Number(verdict) : verdict);
  if (does) ACTIONS[does](index, Number(button.closest(".answer")?.dataset.side), button);
});

// ------------------------------------------------------------------ what is done to the page

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send();
});
$("message").addEventListener("input", drawAround);
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
$("stop").addEventListener("click", () => writing?.abort());
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("settings").open) return;
  if ($("card").hidden) writing?.abort();
  else showCard($("card"), null);
});

for (const name of ["first", "second"]) $(name).addEventListener("change", () => changed({ [name]: $(name).value }));
for (const name of ["blind", "continues"]) $(name).addEventListener("change", () => changed({ [name]: $(name).checked }));
$("probabilities").addEventListener("click", () => {
  changed({ raw: !settings.raw });
  draw();
});

function changed(values) {
  change(values);
  drawAround();
}

$("new").addEventListener("click", () => {
  const before = conversation;
  const replace = (by) => {
    writing?.abort();
    conversation = by;
    draw();
    keep();
    $("message").focus();
  };
  replace(Conversation.blank());
  if (before.rounds.length) tell("A new conversation.", "Bring back the earlier one", () => replace(before));
});

function download(name, rows, none) {
  $("exports").hidePopover();
  if (rows.length === 0) return tell(none);
  const lines = rows.map((row) => `${JSON.stringify(row)}\n`);
  const href = URL.createObjectURL(new Blob(lines, { type: "application/jsonl" }));
  Object.assign(document.createElement("a"), { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}
$("export-sft").addEventListener("click", () =>
  download("conversation.jsonl", Conversation.conversationRows(conversation), "There is no answer to export yet."),
);
$("export-dpo").addEventListener("click", () =>
  download(
    "preferences.jsonl",
    Conversation.preferenceRows(conversation),
    "There are no preferences yet: vote between two models, regenerate an answer, or edit one.",
  ),
);

// ------------------------------------------------------------------ tokens

const answerOf = (token) => {
  const index = [...$("rounds").children].indexOf(token.closest(".round"));
  return shown(conversation.rounds[index].sides[token.closest(".answer").dataset.side]);
};
const point = (token) => showCard($("card"), token, token && answerOf(token));
let pinned = false; // by a click or a tap

$("rounds").addEventListener("pointerover", ({ target, pointerType }) => {
  if (pointerType === "mouse" && !pinned) point(target.closest(".token"));
});
document.addEventListener("click", ({ target }) => {
  const token = target.closest(".token");
  pinned = Boolean(token) && !(pinned && token.classList.contains("current"));
  point(pinned ? token : null);
});
$("rounds").addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!by || !event.target.matches(".text.raw")) return;
  event.preventDefault();
  const tokens = [...event.target.querySelectorAll(".token")];
  const next = tokens[tokens.findIndex((token) => token.classList.contains("current")) + by] ?? tokens.at(by < 0 ? -1 : 0);
  if (next) point(next);
});

// ------------------------------------------------------------------ settings, and the beginning

const form = $("settings").querySelector("form");
bind(form);
$("settings-button").addEventListener("click", () => $("settings").showModal());
$("settings").addEventListener("close", () => {
  const key = form.elements.key.value.trim();
  const isNew = key !== apiKey();
  setApiKey(key);
  if (isNew || server.models.length === 0) start();
  if (conversation.rounds.length && settings.system.trim() !== conversation.system) {
    tell("The conversation keeps the system prompt that it began with.", "Redo it with the new one", () => {
      conversation.system = settings.system.trim();
      run((signal) => writeFrom(0, signal));
    });
  }
});

function askForKey() {
  $("key-field").hidden = false;
  tell("The server asks for an API key.");
  if (!$("settings").open) $("settings").showModal();
  form.elements.key.focus();
}

async function start() {
  try {
    server = await call("GET", "/page/server");
  } catch (error) {
    if (error.status === 401) askForKey();
    else tell(error.message, "Try again", start);
    return;
  }
  $("notice").hidden = true;
  const options = server.models.map((model) => new Option(model.chat ? model.id : `${model.id} (base)`, model.id));
  $("first").replaceChildren(...options);
  $("second").replaceChildren(new Option("no second model", ""), ...options.map((option) => option.cloneNode(true)));
  const first = modelOf(settings.first) ? settings.first : server.models[0].id;
  change({ first, second: modelOf(settings.second) ? settings.second : "" });
  for (const name of ["first", "second"]) $(name).value = settings[name];
  for (const name of ["blind", "continues"]) $(name).checked = settings[name];
  $("name-field").hidden = !server.votes;
  draw();
}

form.elements.key.value = apiKey();
$("key-field").hidden = !apiKey();
start();
