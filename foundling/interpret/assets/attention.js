// The page: what is chosen, by whom it can be changed, and what is then drawn and written.
"use strict";

const $ = id => document.getElementById(id);
const state = {
  which: told.sentences.length > 1 ? "difference" : "0", picture: "lines",
  mode: told.start ? "head" : "mean", layer: told.start ? told.start.layer : told.layers - 1,
  head: told.start ? told.start.head : 0, sink: true, row: 0, from: null,
};
let view = null, drawing = 0, passed = null;

/** The row of a word, given as its number in the sentence that is shown. */
function rowOf(word, which = state.which) {
  if (which !== "difference") return word;
  const found = told.pairs.findIndex(([first]) => first >= word);
  return found < 0 ? told.pairs.length - 1 : found;
}

function change(values) {
  const before = view && view.rows[state.row] && view.rows[state.row].at;
  if (values.which && values.which !== state.which && before) {
    const number = state.which === "1" ? 1 : 0;
    if (values.which === "difference") {
      values.row = Math.max(0, told.pairs.findIndex(pair => pair[number] >= before[number]));
    } else {
      const to = Number(values.which);
      const pair = told.pairs.find(one => one[number] >= before[number]);
      values.row = pair ? pair[to] : told.sentences[to].words.length - 1;
    }
    values.from = null;
  }
  Object.assign(state, values);
  return refresh();
}

/** Work the table out anew and show it everywhere. */
async function refresh() {
  const mine = ++drawing, next = await seen(state);
  if (mine !== drawing) return;
  view = next;
  passed = null;
  marks();
  draw();
  await thumbnails(mine);
  if (mine === drawing) await everywhere(mine);
}

function describe() {
  const what = { head: `head ${state.head}`, mean: "mean of heads", max: "largest of heads",
    rollout: "rollout" }[state.mode];
  const sink = state.sink ? "" : ", first word left out";
  return `Layer ${state.layer}, ${what}${sink}`;
}

function draw() {
  const row = passed ?? state.row, label = `${describe()}: who attends to whom`;
  const room = $("picture"), width = Math.max(280, room.clientWidth);
  const lines = state.picture === "lines";
  const choose = (at, column) => select(column === "from" ? { from: at } : { row: at, from: null });
  const svg = lines
    ? drawLines(view, row, Math.min(width, 760), label, choose, pass)
    : drawHeat(view, row, Math.min(width, 900), label, choose);
  const scrolled = room.scrollTop;
  room.replaceChildren(svg);
  room.scrollTop = scrolled;
  if (lines) reveal(room, svg.querySelector(`[data-row="${row}"]`));
  if (lines) svg.addEventListener("pointerleave", () => pass(null));
  strip(row);
  ranked(row);
}

/** Scroll so far that the chosen word is in sight. */
function reveal(room, word) {
  const [outer, inner] = [room.getBoundingClientRect(), word.getBoundingClientRect()];
  if (inner.top < outer.top || inner.bottom > outer.bottom) {
    room.scrollTop += inner.top - outer.top - room.clientHeight * 0.75;
  }
}

/** The pointer passes over a word: show its lines until it is gone. */
function pass(row) {
  if (row === passed || row === state.row && passed === null) return;
  passed = row === state.row ? null : row;
  const focus = passed ?? state.row;
  for (const path of $("picture").querySelectorAll("path[data-to]")) {
    const style = strand(Number(path.dataset.share), Number(path.dataset.to) === focus);
    for (const [name, value] of Object.entries(style)) path.setAttribute(name, value);
  }
  strip(focus);
  ranked(focus);
}

function select(values) {
  Object.assign(state, values);
  passed = null;
  draw();
  everywhere(drawing);
}

/** The text itself, each word a button, as dark as the chosen word attends to it. */
function strip(row) {
  const { rows, size, table } = view, scale = most(view), same = told.sentences[0].same;
  const inside = document.activeElement?.closest?.("#strip button")?.dataset.row;
  $("strip").replaceChildren(...rows.map(({ word, at }, number) => {
    const button = document.createElement("button"), weight = table[row * size + number];
    const later = at[0] > rows[row].at[0];
    button.type = "button";
    button.textContent = word;
    button.dataset.row = number;
    button.setAttribute("aria-pressed", number === state.row);
    button.tabIndex = number === state.row ? 0 : -1;
    button.style.setProperty("--share", `${(58 * Math.abs(weight) / scale).toFixed(1)}%`);
    button.style.setProperty("--tint", `var(${weight < 0 ? "--cd55e00" : "--c0072b2"})`);
    if (later) button.classList.add("later");
    if (same !== null && at[0] < same) button.classList.add("blind");
    button.title = [
      later ? `comes later: “${rows[row].word}” cannot see it`
        : `“${rows[row].word}” attends to it with ${shown(weight, view.signed)}`,
      same !== null && at[0] < same ? "its own row is identical in both texts" : "",
    ].filter(Boolean).join("; ");
    button.addEventListener("click", () => select({ row: number, from: null }));
    return button;
  }));
  if (inside !== undefined) $("strip").querySelector('[aria-pressed="true"]').focus();
}

/** What the row attends to, most first. */
function ranked(row) {
  const { rows, size, table, signed, parts } = view;
  const order = rows.map((_, from) => from).filter(from => Math.abs(table[row * size + from]) > 0.0005)
    .sort((a, b) => Math.abs(table[row * size + b]) - Math.abs(table[row * size + a])).slice(0, 10);
  const scale = Math.max(...order.map(from => Math.abs(table[row * size + from])), 1e-9);
  $("looks").textContent = `“${rows[row].word}” attends to`;
  const where = $("told-row");
  const same = told.sentences[0].same, at = rows[row].at[0];
  where.textContent = same === null ? "" : at < same
    ? "This word comes before the texts differ, so it cannot know how: its row is identical in both."
    : at === same ? "The first word that differs: this row can know." : "This word has read the difference.";
  $("ranked").replaceChildren(...order.map(from => {
    const item = document.createElement("li"), button = document.createElement("button");
    const weight = table[row * size + from], value = document.createElement("span");
    button.type = "button";
    button.append(rows[from].word);
    button.style.setProperty("--share", `${(100 * Math.abs(weight) / scale).toFixed(1)}%`);
    button.style.setProperty("--tint", `var(${weight < 0 ? "--cd55e00" : "--c0072b2"})`);
    button.setAttribute("aria-pressed", from === state.from);
    value.className = "value";
    value.textContent = shown(weight, signed);
    if (signed) {
      const [a, b] = parts.map((part, n) => part[
        rows[row].at[n] * told.sentences[n].words.length + rows[from].at[n]]);
      button.title = `${shown(a)} in the first text, ${shown(b)} in the second`;
    }
    button.append(value);
    button.addEventListener("click", () => select({ row, from }));
    item.append(button);
    return item;
  }));
  if (!order.length) $("ranked").textContent = signed ? "No difference: the row is identical." : "";
  antecedents(row);
}

function antecedents(row) {
  const say = $("antecedents");
  if (!told.antecedents) return;
  const number = state.which === "1" ? 1 : 0, { rows, size, table, signed } = view;
  say.textContent = told.antecedents.map((name, which) => {
    const words = told.sentences[number].antecedents[which];
    const total = rows.reduce((sum, { at }, from) =>
      words.includes(at[number]) ? sum + table[row * size + from] : sum, 0);
    return `${name} ${shown(total, signed)}`;
  }).join(" · ");
}

/** The chosen layer's heads, small. */
async function thumbnails(mine) {
  const made = [];
  for (let head = 0; head < told.heads; head++) {
    const one = await seen({ ...state, mode: "head", head });
    if (mine !== drawing) return;
    const button = document.createElement("button"), picture = bitmap(one, most(one));
    button.type = "button";
    button.dataset.head = head;
    button.append(picture, `head ${head}`);
    button.setAttribute("aria-pressed", state.mode === "head" && head === state.head);
    button.setAttribute("aria-label", `Head ${head} of layer ${state.layer}`);
    button.addEventListener("click", () => change({ mode: "head", head }));
    made.push(button);
  }
  const inside = document.activeElement?.closest?.("#heads button")?.dataset.head;
  $("heads").replaceChildren(...made);
  if (inside !== undefined) made[inside].focus();
}

/** The chosen pair of words in every layer and head; loads all layers, so only while it is open. */
async function everywhere(mine) {
  if (!view || !$("everywhere").open) return;
  const { rows, size, table } = view, row = state.row;
  const from = state.from ?? rows.map((_, n) => n).reduce((best, n) =>
    Math.abs(table[row * size + n]) > Math.abs(table[row * size + best]) ? n : best, 0);
  const numbers = state.which === "difference" ? [0, 1] : [Number(state.which)];
  const all = Array.from({ length: told.layers }, (_, layer) => layer);
  await Promise.all(numbers.map(number => weights[number].load(...all)));
  if (mine !== drawing) return;
  const value = (layer, head) => numbers.map(n =>
    weights[n].at(layer, head, rows[row].at[n], rows[from].at[n])).reduce((a, b) => a - b);
  $("pair").textContent = `“${rows[row].word}” → “${rows[from].word}”, each head as it is`;
  const values = all.map(layer => Array.from({ length: told.heads }, (_, head) => value(layer, head)));
  const scale = Math.max(...values.flat().map(Math.abs), 1e-9);
  $("grid").replaceChildren(...values.map((line, layer) => {
    const tr = document.createElement("tr"), th = document.createElement("th");
    th.scope = "row";
    th.textContent = `layer ${layer}`;
    tr.append(th, ...line.map((weight, head) => {
      const td = document.createElement("td"), button = document.createElement("button");
      button.type = "button";
      button.textContent = shown(weight, view.signed, 2);
      button.style.setProperty("--share", `${(60 * Math.abs(weight) / scale).toFixed(1)}%`);
      button.style.setProperty("--tint", `var(${weight < 0 ? "--cd55e00" : "--c0072b2"})`);
      button.setAttribute("aria-label", `Layer ${layer}, head ${head}: ${shown(weight, view.signed)}`);
      if (state.mode === "head" && layer === state.layer && head === state.head) button.className = "own";
      button.addEventListener("click", () => change({ mode: "head", layer, head }));
      td.append(button);
      return td;
    }));
    return tr;
  }));
}

/** Show in the controls what is chosen. */
function marks() {
  for (const input of document.querySelectorAll("#controls input[type=radio]")) {
    input.checked = state[input.name] === input.value;
  }
  $("layer").value = state.layer;
  $("sink").checked = !state.sink;
  $("shown").textContent = describe();
  if ($("keys")) $("keys").hidden = state.which !== "difference";
  for (const button of document.querySelectorAll("[data-choose]")) {
    const [layer, head] = button.dataset.choose.split(",").map(Number);
    button.closest("tr, td").classList.toggle(
      "own", state.mode === "head" && layer === state.layer && head === state.head);
  }
}

function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function drawn() {
  return new XMLSerializer().serializeToString($("picture").querySelector("svg"));
}

function exportPng() {
  const image = new Image(), svg = $("picture").querySelector("svg").viewBox.baseVal;
  image.onload = () => {
    const made = document.createElement("canvas");
    made.width = 2 * svg.width;
    made.height = 2 * svg.height;
    made.getContext("2d").drawImage(image, 0, 0, made.width, made.height);
    made.toBlob(blob => save("attention.png", blob), "image/png");
  };
  image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(drawn());
}

function exportJson() {
  const { rows, size, table } = view;
  const numbers = state.which === "difference" ? [0, 1] : [Number(state.which)];
  const written = numbers.map(n => {
    const { text, words, tokens, ids } = told.sentences[n];
    return { text, words, token_ids: ids, word_tokens: tokens };
  });
  save("attention.json", new Blob([JSON.stringify({
    model: told.name, ...state, sentences: written, rows: rows.map(row => row.word),
    weight_step: 1 / told.scale,
    weights: rows.map((_, row) => Array.from(table.slice(row * size, (row + 1) * size))),
  })], { type: "application/json" }));
}

$("controls").addEventListener("change", ({ target }) => {
  if (target.id === "layer") change({ layer: Number(target.value) });
  else if (target.id === "sink") change({ sink: !target.checked });
  else change({ [target.name]: target.value });
});
$("strip").addEventListener("keydown", event => {
  const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!by) return;
  event.preventDefault();
  select({ row: Math.min(view.size - 1, Math.max(0, state.row + by)), from: null });
});
document.addEventListener("click", ({ target }) => {
  const button = target.closest("[data-choose]");
  if (!button) return;
  const [layer, head] = button.dataset.choose.split(",").map(Number);
  change({ mode: "head", layer, head });
});
$("everywhere").addEventListener("toggle", () => everywhere(drawing));
$("svg").addEventListener("click", () => save("attention.svg", new Blob([drawn()], { type: "image/svg+xml" })));
$("png").addEventListener("click", exportPng);
$("json").addEventListener("click", exportJson);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
let width = 0;
new ResizeObserver(() => {
  const now = $("picture").clientWidth;
  if (view && now !== width) draw();
  width = now;
}).observe($("picture"));
state.row = rowOf(told.sentences[0].row);
refresh().then(() => { document.body.dataset.ready = "yes"; });
