// The pictures of a table of weights: lines between words, a heat map, thumbnails of heads.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
const MAX_LINES = 3000, MAX_CELLS = 70; // more words than this are one image, not rectangles
const measure = document.createElement("canvas").getContext("2d");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function palette() {
  return {
    paper: colour("--cffffff"), ink: colour("--c1f2933"), muted: colour("--c5a6672"),
    line: colour("--ce3e7ec"), more: colour("--c0072b2"), less: colour("--cd55e00"),
  };
}

function element(name, attributes, ...children) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function canvas(width, height, label) {
  const svg = element("svg", {
    xmlns: SVG, viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-label": label, "font-family": FONT, "font-size": 15,
  });
  svg.append(element("rect", { width, height, fill: palette().paper }));
  return svg;
}

function fitted(word, width, size = 15) {
  measure.font = `600 ${size}px ${FONT}`;
  if (measure.measureText(word).width <= width) return word;
  let cut = word;
  while (cut.length > 1 && measure.measureText(cut + "…").width > width) cut = cut.slice(0, -1);
  return cut + "…";
}

function widest(rows, size = 15) {
  measure.font = `600 ${size}px ${FONT}`;
  return Math.max(...rows.map(row => measure.measureText(row.word).width));
}

/** The largest weight that is no matter of course: the first row has one place to look at. */
function most(view) {
  let found = 0;
  for (let n = view.size; n < view.table.length; n++) found = Math.max(found, Math.abs(view.table[n]));
  return found || 1;
}

/** How a line looks: those of the chosen word stand out. */
function strand(share, own) {
  return {
    "stroke-width": (own ? 1 + 7 * share : 0.5 + 2.5 * share).toFixed(2),
    "stroke-opacity": (own ? 0.25 + 0.75 * share : 0.16 * share).toFixed(3),
  };
}

/** Two columns: who looks, at the left, and what is looked at. */
function drawLines(view, chosen, width, label, choose, passing) {
  const { rows, size, table } = view, ink = palette(), step = 29, top = 40;
  const side = Math.min(widest(rows) + 26, width * 0.36), left = side, right = width - side;
  const svg = canvas(width, top + size * step + 12, label), y = row => top + (row + 0.5) * step;
  const scale = most(view);
  const head = (x, anchor, text) => element(
    "text", { x, y: 20, "text-anchor": anchor, fill: ink.muted, "font-size": 13 }, text);
  svg.append(head(left - 12, "end", "who looks"), head(right + 12, "start", "at whom"));
  const lines = [];
  for (let to = 0; to < size; to++) {
    for (let from = 0; from < size; from++) {
      const weight = table[to * size + from];
      if (Math.abs(weight) >= 0.01) lines.push({ to, from, weight });
    }
  }
  lines.sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  const middle = (left + right) / 2;
  const drawn = lines.slice(0, MAX_LINES).concat(lines.slice(MAX_LINES).filter(l => l.to === chosen));
  const band = element("rect", {
    x: 4, y: y(chosen) - step / 2 + 1, width: left - 4, height: step - 2, rx: 7, fill: ink.more,
    "fill-opacity": 0.13,
  });
  svg.append(band);
  const strands = element("g", { fill: "none", "stroke-linecap": "round" });
  for (const { to, from, weight } of drawn.reverse()) {
    const share = Math.abs(weight) / scale;
    strands.append(element("path", {
      d: `M${left} ${y(to)}C${middle} ${y(to)} ${middle} ${y(from)} ${right} ${y(from)}`,
      stroke: weight < 0 ? ink.less : ink.more, "data-to": to, "data-share": share.toFixed(4),
      ...strand(share, to === chosen),
    }, element("title", {}, `${rows[to].word} → ${rows[from].word}: ${shown(weight, view.signed)}`)));
  }
  for (const path of [...strands.children].filter(one => Number(one.dataset.to) === chosen)) {
    strands.append(path);
  }
  svg.append(strands);
  rows.forEach((row, at) => {
    const weight = table[chosen * size + at], share = Math.abs(weight) / scale;
    const later = row.at[0] > rows[chosen].at[0];
    const word = (x, anchor, weighty, fill) => element("text", {
      x, y: y(at) + 5, "text-anchor": anchor, fill, "font-weight": weighty ? 650 : 400,
    }, fitted(row.word, side - 22));
    const target = element("g", { class: "word", "data-row": at, "data-column": "from" },
      element("rect", {
        x: right, y: y(at) - step / 2 + 2, width: side - 4, height: step - 4, rx: 7,
        fill: weight < 0 ? ink.less : ink.more, "fill-opacity": (0.5 * share).toFixed(3),
      }), word(right + 12, "start", share > 0.3, later ? ink.muted : ink.ink));
    if (later) target.setAttribute("opacity", 0.5);
    const source = element("g", { class: "word", "data-row": at, "data-column": "to" },
      element("rect", { x: 0, y: y(at) - step / 2, width: left, height: step, fill: "transparent" }),
      word(left - 12, "end", at === chosen, ink.ink));
    for (const one of [source, target]) {
      one.addEventListener("click", () => choose(at, one.dataset.column));
    }
    source.addEventListener("pointerenter", () => passing(at));
    svg.append(source, target);
  });
  return svg;
}

/** Rows look at columns; the words of a large one are left to the pointer. */
function drawHeat(view, chosen, width, label, choose) {
  const { rows, size, table } = view, ink = palette(), scale = most(view);
  const named = size <= MAX_CELLS;
  const text = named ? Math.min(widest(rows, 14) + 12, width * 0.3) : 8;
  const top = named ? Math.min(text * 0.8 + 16, 120) : 8;
  const cell = Math.max(Math.min((width - text - 8) / size, (670 - top) / size, 40), 1), letters = Math.min(14, cell * 0.8);
  const svg = canvas(width, top + size * cell + 52, label);
  if (named) {
    const group = element("g", {});
    for (let to = 0; to < size; to++) {
      for (let from = 0; from < size; from++) {
        const weight = table[to * size + from], hidden = rows[from].at[0] > rows[to].at[0];
        group.append(element("rect", {
          x: (text + from * cell).toFixed(2), y: (top + to * cell).toFixed(2), "data-to": to,
          width: (cell - 1).toFixed(2), height: (cell - 1).toFixed(2), rx: Math.min(3, cell / 6),
          fill: hidden ? "none" : !weight ? ink.line : weight < 0 ? ink.less : ink.more,
          "fill-opacity": hidden ? 0 : weight ? (0.05 + 0.95 * Math.min(1, Math.abs(weight) / scale)).toFixed(3) : 0.6,
        }, element("title", {}, `${rows[to].word} → ${rows[from].word}: ${shown(weight, view.signed)}`)));
      }
    }
    svg.append(group);
    if (letters >= 7) rows.forEach((row, at) => {
      const middle = at * cell + cell / 2, own = at === chosen;
      const style = { "font-size": letters.toFixed(1), fill: own ? ink.more : ink.ink,
        "font-weight": own ? 700 : 400 };
      svg.append(
        element("text", { x: text - 6, y: top + middle + letters / 3, "text-anchor": "end", ...style },
          fitted(row.word, text - 10, letters)),
        element("text", { ...style, transform:
          `translate(${text + middle + letters / 4} ${top - 6}) rotate(-50)` },
          fitted(row.word, top * 1.05, letters)));
    });
  } else {
    svg.append(element("image", {
      x: text, y: top, width: size * cell, height: size * cell, "image-rendering": "pixelated",
      href: bitmap(view, scale).toDataURL(),
    }));
  }
  svg.append(element("rect", {
    x: text - 1, y: top + chosen * cell - 1, width: size * cell + 1, height: cell + 1, fill: "none",
    stroke: ink.more, "stroke-width": 1.5, rx: 3,
  }));
  svg.append(legend(view, scale, text, top + size * cell + 20, ink));
  const under = event => {
    const box = svg.getBoundingClientRect(), ratio = svg.viewBox.baseVal.width / box.width;
    return [Math.floor(((event.clientY - box.top) * ratio - top) / cell),
      Math.floor(((event.clientX - box.left) * ratio - text) / cell)];
  };
  const there = n => n >= 0 && n < size;
  svg.addEventListener("click", event => {
    const [to] = under(event);
    if (there(to)) choose(to, "to");
  });
  if (!named) {
    const tip = element("title", {});
    svg.append(tip);
    svg.addEventListener("pointermove", event => {
      const [to, from] = under(event);
      tip.textContent = there(to) && there(from) && from <= to
        ? `${rows[to].word} → ${rows[from].word}: ${shown(table[to * size + from], view.signed)}` : "";
    });
  }
  return svg;
}

function legend(view, scale, x, y, ink) {
  const steps = 40, group = element("g", { "font-size": 12, fill: ink.muted });
  for (let n = 0; n < steps; n++) {
    const share = view.signed ? 2 * n / (steps - 1) - 1 : n / (steps - 1);
    group.append(element("rect", {
      x: x + n * 4, y, width: 4.2, height: 9, fill: share < 0 ? ink.less : ink.more,
      "fill-opacity": (0.05 + 0.95 * Math.abs(share)).toFixed(3),
    }));
  }
  const mark = (at, anchor, text) => element("text", { x: at, y: y + 24, "text-anchor": anchor }, text);
  group.append(mark(x, "start", view.signed ? shown(-scale, true) : "0"),
    mark(x + 4 * steps, "end", shown(scale, view.signed)));
  return group;
}

function channels(name) {
  const number = parseInt(colour(name).slice(1), 16);
  return [number >> 16, number >> 8 & 255, number & 255];
}

function bitmap(view, scale) {
  const { size, table } = view, made = document.createElement("canvas");
  made.width = made.height = size;
  const context = made.getContext("2d"), image = context.createImageData(size, size);
  const more = channels("--c0072b2"), less = channels("--cd55e00");
  table.forEach((weight, n) => {
    image.data.set(weight < 0 ? less : more, 4 * n);
    image.data[4 * n + 3] = 255 * Math.min(1, Math.abs(weight) / scale);
  });
  context.putImageData(image, 0, 0);
  return made;
}

/** A weight for the reader, with more digits where it is small unless told how many. */
function shown(value, signed = false, digits = Math.abs(value) < 0.0095 && value ? 3 : 2) {
  const text = Math.abs(value).toFixed(digits);
  return signed && Number(text) ? (value < 0 ? "−" : "+") + text : text;
}
