// Asks for a name; a known one is asked about, as its earlier link will end.

import { call, Refused } from "/assets/interface.js";

const form = document.querySelector("form");
const said = document.querySelector("#status");
const choices = document.querySelector(".choices");

async function enter(name, isNew) {
  try {
    const { token } = await call(null, "POST", "annotators", { name, new: isNew });
    location.assign(`/compare?${new URLSearchParams({ token })}`);
  } catch (error) {
    const known = error instanceof Refused && error.status === 409 && isNew;
    said.textContent = known
      ? `${error.message} Is it you? An earlier link will end.`
      : error instanceof Refused ? error.message : "The server is away; try again in a moment.";
    choices.hidden = !known;
    if (!known) return;
    const again = choices.querySelector("button");
    again.textContent = `Go on as ${name}`;
    again.onclick = () => enter(name, false);
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  enter(form.elements.name.value.trim(), true);
});
