// Tokens in a text: where each stands, how probable it was, and what else might have stood there.

// A character of its own for each token, which no font shows: the server renders Markdown with
// one before each token, so that tokens are found again in what it renders.
const FIRST = 0xf0000;
const MARK = /[\u{F0000}-\u{10FFFD}]/u;
const MOST = 0x10fffd - FIRST;

const MISSED = 3; // characters at the end of a text that no token spells: bytes of no character

/** What of the text each token wrote, special ones nothing; none where tokens do not make it up. */
function pieces({ text, tokens }) {
  let rest = text;
  const found = tokens.map(([name, spelled], place) => {
    // Some tokenizers begin a text with a space, which is not shown.
    const whole = place === 0 && !text.startsWith(" ") ? spelled.replace(/^ /, "") : spelled;
    const nameless = whole.slice(0, Math.max(0, whole.length - name.length)); // of a special token
    const piece = [whole, nameless].find((one) => rest.startsWith(one)) ?? (whole.startsWith(rest) ? rest : "");
    rest = rest.slice(piece.length);
    return piece;
  });
  if (found.length === 0 || rest.length > MISSED) return [];
  return [...found.slice(0, -1), found.at(-1) + rest];
}

/** The text with a mark before each token, or as it is where that cannot be. */
export function marked(answer) {
  const found = pieces(answer);
  if (found.length === 0 || found.length > MOST || MARK.test(answer.text)) return answer.text;
  return found.map((piece, place) => String.fromCodePoint(FIRST + place) + piece).join("");
}

function span(text, place, answer) {
  const made = document.createElement("span");
  made.className = "token";
  made.textContent = text;
  made.dataset.token = place;
  made.classList.toggle("break", text.includes("\n"));
  made.style.setProperty("--doubt", doubt(answer.tokens[place][2]));
  return made;
}

/** From 0, certain, to 1, below a chance of one in a thousand. */
const doubt = (logprob) => Math.min(1, -logprob / Math.log(1000)).toFixed(3);

/** Turns the marks of rendered Markdown into tokens. */
export function unmark(root, answer) {
  const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) if (texts.currentNode.data.trim()) found.push(texts.currentNode);
  let place = -1; // a token may go on in the next element
  for (const node of found) {
    const parts = [];
    for (const part of node.data.split(/(?=[\u{F0000}-\u{10FFFD}])/u)) {
      const marks = MARK.test(part);
      if (marks) place = part.codePointAt(0) - FIRST;
      const [, text, space] = /^(.*?)(\s*)$/s.exec(marks ? part.slice(2) : part);
      if (text) parts.push(answer.tokens[place] ? span(text, place, answer) : text);
      parts.push(space);
    }
    node.replaceWith(...parts);
  }
}

/** The text token by token, as it was written. */
export function spans(answer) {
  const made = pieces(answer).map((piece, place) => span(piece, place, answer));
  return made.length ? made : [answer.text];
}

// ------------------------------------------------------------------ the card

const visible = (text) => text.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥") || "(nothing)";

function percent(logprob) {
  const share = 100 * Math.exp(logprob);
  if (share >= 99.95) return "100%";
  return share < 0.01 ? "< 0.01%" : `${share.toFixed(share < 1 ? 2 : 1)}%`;
}

function line(text, logprob, own) {
  const row = document.createElement("div");
  row.className = own ? "option own" : "option";
  row.style.setProperty("--share", Math.exp(logprob));
  for (const [name, content] of [["b", visible(text)], ["span", percent(logprob)]]) {
    row.append(Object.assign(document.createElement(name), { textContent: content }));
  }
  return row;
}

/** Shows the card of a token beside its element; null hides it. */
export function showCard(card, element, answer) {
  document.querySelector(".token.current")?.classList.remove("current");
  card.hidden = !element;
  if (!element) return;
  element.classList.add("current");
  const [text, , logprob, top] = answer.tokens[element.dataset.token];
  const others = top.filter(([other]) => other !== text);
  card.replaceChildren(line(text, logprob, true), ...others.map((other) => line(...other, false)));
  const at = element.getClientRects()[0];
  const [width, height] = [card.offsetWidth, card.offsetHeight];
  const left = Math.max(8, Math.min(at.left, document.documentElement.clientWidth - width - 8));
  const above = at.top - height - 8;
  card.style.translate = `${left}px ${above > 8 ? above : at.bottom + 8}px`;
}
