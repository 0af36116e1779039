// The conversation as data: what a model is sent of it, how it is kept, and what is exported.
//
// A round is a prompt and one or two sides; a side is a model with its answers, one of them shown.
// The conversation goes on with the shown answer of the side `kept`, so both sides always answer
// the same prompt. A vote is on the answers that were shown: { verdict, answers: their places }.

const KEPT = "foundling/chat";

export const blank = () => ({ system: "", rounds: [] });
export const shown = (side) => side.answers[side.shown];
export const kept = (round) => shown(round.sides[round.kept]);

export function newRound(prompt, models, blind) {
  const sides = models.map((model) => ({ model: model.id, chat: model.chat, answers: [], shown: -1 }));
  if (blind && crypto.getRandomValues(new Uint8Array(1))[0] % 2) sides.reverse();
  return { prompt, blind: blind && sides.length > 1, sides, kept: 0, votes: [] };
}

/** Forget the answers of a round, to ask again. */
export function clear(round) {
  Object.assign(round, { kept: 0, votes: [] });
  for (const side of round.sides) Object.assign(side, { answers: [], shown: -1 });
}

/** Show a new answer of a side, in place of one that failed. */
export function add(side, answer) {
  if (shown(side)?.error) side.answers.splice(side.shown, 1);
  side.shown = side.answers.push(answer) - 1;
}

/** Whether names stay hidden: until the first vote on a blind round. */
export const hidden = (round) => round.blind && round.votes.length === 0;

/** The vote on the answers that are shown, if there is one. */
export const voteOn = (round) =>
  round.votes.find(({ answers }) => round.sides.every((side, place) => side.shown === answers[place]));

/** The messages before the round at `index` and its prompt; rounds without an answer are left out. */
export function messages({ system, rounds }, index = rounds.length) {
  return [
    ...(system ? [{ role: "system", content: system }] : []),
    ...rounds
      .slice(0, index)
      .filter((round) => kept(round)?.text)
      .flatMap((round) => [
        { role: "user", content: round.prompt },
        { role: "assistant", content: kept(round).text },
      ]),
    ...(index < rounds.length ? [{ role: "user", content: rounds[index].prompt }] : []),
  ];
}

/** What a base model continues: all turns as paragraphs of one text, without the system prompt. */
export const textOf = (turns) =>
  turns
    .filter((turn) => turn.role !== "system")
    .map((turn) => turn.content)
    .join("\n\n");

// ------------------------------------------------------------------ kept across reloads

export function load() {
  return JSON.parse(localStorage.getItem(KEPT)) ?? blank();
}

/** False where the browser has no room for all of it; the tokens are left out then, if that helps. */
export function save(conversation) {
  const bare = (name, value) => (name === "tokens" ? [] : value);
  for (const replacer of [null, bare]) {
    try {
      localStorage.setItem(KEPT, JSON.stringify(conversation, replacer));
      return replacer === null;
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error;
    }
  }
  return false;
}

// ------------------------------------------------------------------ exported as JSON lines

/** The row that `foundling sft` reads, if there is one: the messages that the conversation goes on with. */
export function conversationRows(conversation) {
  const turns = messages(conversation);
  return turns.some((turn) => turn.role === "assistant") ? [{ messages: turns }] : [];
}

/**
 * Rows that `foundling dpo` reads: an answer that won a vote over the one that lost it, and an
 * answer that is shown over those that it replaced, by regenerating or by editing.
 */
export function preferenceRows(conversation) {
  return conversation.rounds.flatMap((round, index) => {
    const won = round.votes
      .filter(({ verdict }) => typeof verdict === "number")
      .map(({ verdict, answers }) => [verdict, 1 - verdict].map((place) => round.sides[place].answers[answers[place]]));
    const replaced = round.sides.flatMap((side) => side.answers.map((answer) => [shown(side), answer]));
    return [...won, ...replaced]
      .filter(([chosen, rejected]) => chosen.text && rejected.text && chosen.text !== rejected.text)
      .map((pair) => pair.map(({ text }) => [{ role: "assistant", content: text }]))
      .map(([chosen, rejected]) => ({ prompt: messages(conversation, index), chosen, rejected }));
  });
}
