// The settings: kept in this browser, and what of them a request carries.

const KEPT = "foundling/chat-settings";
const NUMBERS = [
  "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "max_tokens",
];
const TEXTS = ["system", "seed", "stop", "annotator"];
const BLANK = Object.fromEntries([...NUMBERS, ...TEXTS].map((name) => [name, ""]));

export const settings = {
  ...BLANK,
  first: "",
  second: "",
  blind: false,
  continues: false, // texts, whatever the models were tuned for
  raw: false,
  ...JSON.parse(localStorage.getItem(KEPT)),
};

export function change(values) {
  Object.assign(settings, values);
  localStorage.setItem(KEPT, JSON.stringify(settings));
}

/** The fields of a request; what is left blank is left to the server. */
export function sampling() {
  const given = NUMBERS.filter((name) => settings[name] !== "").map((name) => [name, Number(settings[name])]);
  const stop = settings.stop.split("\n").filter(Boolean).map((text) => text.replaceAll("\\n", "\n"));
  return { ...Object.fromEntries(given), ...(stop.length > 0 && { stop }) };
}

/** A seed for the answer after so many others: counted up from the one that is set, or drawn. */
export const seedAfter = (others) =>
  settings.seed === "" ? crypto.getRandomValues(new Uint32Array(1))[0] >>> 1 : Number(settings.seed) + others;

/** Fills the form, and keeps what is changed in it. */
export function bind(form) {
  const fill = () => Object.keys(BLANK).forEach((name) => (form.elements[name].value = settings[name]));
  form.addEventListener("change", ({ target }) => {
    if (!(target.name in BLANK)) return;
    if (target.reportValidity()) change({ [target.name]: target.value });
  });
  form.querySelector("#reset").addEventListener("click", () => {
    change(Object.fromEntries([...NUMBERS, "seed", "stop"].map((name) => [name, ""])));
    fill();
  });
  fill();
}
