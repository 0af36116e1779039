// The weights of a text: blocks decoded when they are needed, and what is worked out from them.
"use strict";

const told = JSON.parse(document.getElementById("told").textContent);

const arriving = new Map();  // layers of a long text, by name: whom to tell when one is there

/** Called by the script of a layer. */
globalThis.layerRead = (name, data) => arriving.get(name)(data);

/** The packed weights of a layer: in the page, or of a long text in a folder beside it. */
function packed(name) {
  if (!told.apart) return Promise.resolve(document.getElementById(`block-${name}`).textContent.trim());
  const page = location.pathname.split("/").pop().replace(/\.[^.]*$/, "");
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    arriving.set(name, resolve);
    script.addEventListener("load", () => script.remove());
    script.addEventListener("error", () => reject(new Error(`${page}${told.apart}/${name}.js is missing`)));
    script.src = `${page}${told.apart}/${name}.js`;
    document.head.append(script);
  });
}

/** One text's layers, 16 bits a weight, each head the rows of a triangle one after the other. */
class Weights {
  constructor(number) {
    this.number = number;
    this.size = told.sentences[number].words.length;
    this.layers = new Map();
  }

  /** Decode layers unless they are decoded already. */
  async load(...layers) {
    await Promise.all(layers.filter(layer => !this.layers.has(layer)).map(async layer => {
      const text = await packed(`${this.number}-${layer}`);
      const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
      this.layers.set(layer, new Uint16Array(await new Response(stream).arrayBuffer()));
    }));
  }

  at(layer, head, to, from) {
    if (from > to) return 0;
    const triangle = this.size * (this.size + 1) / 2;
    return this.layers.get(layer)[head * triangle + to * (to + 1) / 2 + from] / told.scale;
  }

  head(layer, head) {
    return this.table((to, from) => this.at(layer, head, to, from));
  }

  table(value) {
    const made = new Float64Array(this.size * this.size);
    for (let to = 0; to < this.size; to++) {
      for (let from = 0; from <= to; from++) made[to * this.size + from] = value(to, from);
    }
    return made;
  }

  mean(layer) {
    const made = new Float64Array(this.size * this.size);
    for (let head = 0; head < told.heads; head++) {
      const one = this.head(layer, head);
      for (let n = 0; n < made.length; n++) made[n] += one[n] / told.heads;
    }
    return made;
  }

  max(layer, sink) {
    const made = new Float64Array(this.size * this.size);
    for (let head = 0; head < told.heads; head++) {
      const one = sink ? this.head(layer, head) : withoutSink(this.head(layer, head), this.size);
      for (let n = 0; n < made.length; n++) made[n] = Math.max(made[n], one[n]);
    }
    return made;
  }

  /** Layer by layer the product of (mean weights + 1) / 2 (Abnar and Zuidema 2020, equation 1). */
  rollout(layer, sink) {
    const size = this.size;
    let flow = this.table((to, from) => to === from ? 1 : 0);
    for (let at = 0; at <= layer; at++) {
      const mean = sink ? this.mean(at) : withoutSink(this.mean(at), size);
      const next = new Float64Array(size * size);
      for (let to = 0; to < size; to++) {
        for (let by = 0; by <= to; by++) {
          const share = (mean[to * size + by] + (to === by ? 1 : 0)) / 2;
          for (let from = 0; from <= by; from++) {
            next[to * size + from] += share * flow[by * size + from];
          }
        }
      }
      flow = next;
    }
    return flow;
  }

  /** The table of a view; see `summarise` of foundling.interpret.weights. */
  async view({ mode, layer, head, sink }) {
    const first = mode === "rollout" ? 0 : layer;
    await this.load(...Array.from({ length: layer - first + 1 }, (_, n) => first + n));
    if (mode === "rollout") return this.rollout(layer, sink);
    if (mode === "max") return this.max(layer, sink);
    const table = mode === "mean" ? this.mean(layer) : this.head(layer, head);
    return sink ? table : withoutSink(table, this.size);
  }
}

/** Without the first column; rows sum to 1 again, and one with nothing else stays. */
function withoutSink(table, size) {
  const kept = table.slice();
  for (let to = 0; to < size; to++) {
    let rest = 0;
    for (let from = 1; from <= to; from++) rest += table[to * size + from];
    if (rest <= 0) continue;
    kept[to * size] = 0;
    for (let from = 1; from <= to; from++) kept[to * size + from] /= rest;
  }
  return kept;
}

const weights = told.sentences.map((_, number) => new Weights(number));

/** What is shown of a sentence (0, 1) or of the difference: rows with their words, and a table. */
async function seen(state) {
  if (state.which !== "difference") {
    const number = Number(state.which);
    const rows = told.sentences[number].words.map((word, at) => ({ word, at: [at, at] }));
    return { rows, size: rows.length, table: await weights[number].view(state), signed: false };
  }
  const [first, second] = await Promise.all(weights.map(one => one.view(state)));
  const [ours, theirs] = told.sentences.map(one => one.words);
  const rows = told.pairs.map(([a, b]) => ({
    word: ours[a] === theirs[b] ? ours[a] : `${ours[a]} / ${theirs[b]}`, at: [a, b],
  }));
  const size = rows.length, table = new Float64Array(size * size);
  rows.forEach(({ at: to }, y) => rows.forEach(({ at: from }, x) => {
    table[y * size + x] = first[to[0] * ours.length + from[0]]
      - second[to[1] * theirs.length + from[1]];
  }));
  return { rows, size, table, signed: true, parts: [first, second] };
}
