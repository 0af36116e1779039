// What each key does. Keys pressed while somebody types, with a modifier, or held down do nothing.

const COMPARISON = {
  1: ["vote", "left"],
  ArrowLeft: ["vote", "left"],
  2: ["vote", "right"],
  ArrowRight: ["vote", "right"],
  t: ["vote", "tie"],
  b: ["vote", "both_bad"],
  q: ["weigh", 1],
  w: ["weigh", 2],
  e: ["weigh", 3],
};
const RATING = {
  ArrowLeft: ["turnTo", "left"],
  ArrowRight: ["turnTo", "right"],
  Enter: ["saveRatings"],
  ...Object.fromEntries([1, 2, 3, 4, 5, 6, 7].map((n) => [n, ["rate", n]])),
};
const ALWAYS = {
  s: ["vote", "skip"],
  u: ["undo"],
  r: ["toReason"],
  g: ["toggleRubric"],
  m: ["toggleRaw"],
  "?": ["help"],
};

const FIELD = "textarea, select, input:not([type=radio]):not([type=checkbox])";

/** Whether keys go into this element as text. */
export const isField = (target) => target instanceof Element && target.matches(FIELD);

/** The action of a key press as [method, argument], or null. */
export function actionOf(event, kind) {
  if (event.defaultPrevented || event.repeat || event.isComposing) return null;
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.closest("dialog")) return null;
  if (isField(target)) return event.key === "Escape" ? ["leaveField"] : null;
  // Arrows move between radio buttons, Enter presses a button.
  if (target.matches("[type=radio]") && event.key.startsWith("Arrow")) return null;
  if (target.matches("button, a, summary") && event.key === "Enter") return null;
  const keys = { ...ALWAYS, ...(kind === "rating" ? RATING : COMPARISON) };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  return Object.hasOwn(keys, key) ? keys[key] : null;
}

export const HELP = {
  comparison: [
    ["1 or ←", "the first answer is better"],
    ["2 or →", "the second answer is better"],
    ["T", "they are equally good"],
    ["B", "both are bad"],
    ["Q, W, E", "slightly, clearly, much better: before you vote"],
  ],
  rating: [
    ["1 to 7", "rate the marked answer, then the other"],
    ["← and →", "mark the first or the second answer"],
    ["Enter", "save both ratings"],
  ],
  always: [
    ["S", "skip: you cannot say"],
    ["U", "undo your last vote"],
    ["R", "write a reason; Escape leaves the field"],
    ["G", "open or close the rubric"],
    ["M", "show Markdown as it was written"],
    ["?", "this help"],
  ],
};
