// One annotator's desk: shows items that are there already, and keeps votes until they are safe.

import { actionOf, HELP } from "/assets/keys.js";
import { call, newKey, Outbox, pause, Refused } from "/assets/interface.js";
import { TEMPLATE } from "/assets/template.js";

const AHEAD = 3; // items on the page, the one that is shown included
const SETTLE_MS = 350; // nobody has read an item sooner: a second click or press is not a vote on it
const STRENGTHS = ["slightly", "clearly", "much"];
const SAID = {
  left: "the first is better",
  right: "the second is better",
  tie: "equally good",
  both_bad: "both bad",
  skip: "skipped",
};

const blank = () => ({ strength: null, reason: "", ratings: { left: null, right: null } });

export default {
  template: TEMPLATE,
  props: { token: String, name: String, kinds: Array },
  data() {
    return {
      mode: this.kinds[0],
      items: [],
      state: "loading",
      form: blank(),
      side: "left", // that a digit rates
      progress: null,
      unsent: 0,
      away: false,
      notice: null,
      ended: "",
      said: null,
      rubric: { version: null, text: "", earlier: [] },
      rubricOpen: (localStorage.getItem("foundling/rubric") ?? (innerWidth < 700 ? "closed" : "open")) === "open",
      editing: false,
      edited: "",
      keysOn: localStorage.getItem("foundling/keys") !== "off",
      STRENGTHS,
      HELP,
    };
  },
  computed: {
    item() {
      return this.items[0] ?? null;
    },
    kind() {
      return this.item?.kind ?? this.mode;
    },
    answers() {
      return [
        { side: "left", title: "First answer", key: 1, text: this.item.left },
        { side: "right", title: "Second answer", key: 2, text: this.item.right },
      ];
    },
    rated() {
      return this.form.ratings.left !== null && this.form.ratings.right !== null;
    },
    done() {
      return this.progress ? this.progress.judged + this.progress.skipped + this.unsent : 0;
    },
    total() {
      if (!this.progress) return 0;
      return Math.max(this.done, this.done + this.progress.waiting - this.unsent);
    },
    nextKind() {
      return this.kinds[this.kinds.indexOf(this.mode) + 1] ?? null;
    },
  },
  watch: {
    "item.key"(key) {
      this.shownAt = performance.now();
      this.hiddenFor = 0;
      this.side = "left";
      if (key !== undefined) this.$nextTick(() => window.scrollTo({ top: 0 }));
    },
    form: {
      deep: true,
      handler(form) {
        // A reload brings the same item back, and what was written about it.
        if (this.item) sessionStorage.setItem("foundling/draft", JSON.stringify([this.item.key, form]));
      },
    },
  },
  async mounted() {
    this.past = []; // votes of this page, for an undo to give them back
    this.outbox = new Outbox(this.name, (body) => call(this.token, "POST", "votes", body), {
      kept: (body, receipt) => {
        this.progress = receipt.progress;
        this.back();
      },
      refused: (body, error) => {
        if (error.status === 401) this.ended = error.message;
        else this.say(`A vote was not kept: ${error.message}`);
        this.back();
      },
      away: () => (this.away = true),
    });
    this.unsent = this.outbox.entries().length;
    document.addEventListener("keydown", this.pressed);
    document.addEventListener("visibilitychange", this.seen);
    await this.outbox.flush();
    await Promise.all([this.fill(), this.readRubric()]);
  },
  unmounted() {
    document.removeEventListener("keydown", this.pressed);
    document.removeEventListener("visibilitychange", this.seen);
  },
  methods: {
    // ------------------------------------------------------------ items
    /** Fetches until enough items are on the page; one fetch at a time. */
    fill() {
      this.filling ??= this.fetchItems().finally(() => (this.filling = null));
      return this.filling;
    },
    async fetchItems() {
      while (this.items.length < AHEAD && !this.ended) {
        const holding = [...this.items, ...this.outbox.entries()].map((one) => one.key);
        const kind = this.mode;
        const given = await this.ask("POST", "next", { kind, holding });
        if (given === null || kind !== this.mode) continue;
        if (this.unsent === 0) this.progress = given.progress;
        this.notice = given.notice;
        if (given.rubric_version !== this.rubric.version && !this.editing) this.readRubric();
        if (given.item === null) {
          this.state = given.state;
          this.askAgain(given.state === "preparing" ? 1000 : 5000);
          return;
        }
        this.state = "item";
        if (!this.items.some((item) => item.key === given.item.key)) this.push(given.item);
      }
    },
    push(item) {
      this.items.push(item);
      if (this.items.length > 1) return;
      const [key, form] = JSON.parse(sessionStorage.getItem("foundling/draft") ?? "[null, null]");
      this.form = key === item.key ? form : blank();
    },
    askAgain(milliseconds) {
      clearTimeout(this.later);
      this.later = setTimeout(() => this.fill(), milliseconds);
    },
    /** An answer of the interface; waits while the server is away, null where it refuses. */
    async ask(method, path, body) {
      for (let wait = 250; !this.ended; wait = Math.min(2 * wait, 4000)) {
        try {
          const answer = await call(this.token, method, path, body);
          this.back();
          return answer;
        } catch (error) {
          if (error instanceof Refused) {
            if (error.status === 401) this.ended = error.message;
            else this.say(error.message);
            if (path === "next") this.ended ||= error.message;
            return null;
          }
          this.away = true;
          await pause(wait);
        }
      }
      return null;
    },
    back() {
      this.away = false;
      this.unsent = this.outbox.entries().length;
    },
    turnToKind(kind) {
      this.mode = kind;
      this.items = this.items.filter((item) => item.kind === kind);
      this.state = "loading";
      this.progress = null;
      this.fill();
    },

    // ------------------------------------------------------------ votes
    vote(verdict) {
      const strength = ["left", "right"].includes(verdict) ? this.form.strength : null;
      this.cast({ verdict, strength, ratings: null });
    },
    saveRatings() {
      if (this.rated) this.cast({ verdict: null, strength: null, ratings: { ...this.form.ratings } });
      else this.say("Rate both answers from 1 to 7 first.");
    },
    cast(what) {
      const elapsed = performance.now() - this.shownAt;
      if (!this.item || this.ended || elapsed < SETTLE_MS) return;
      const body = {
        key: this.item.key,
        ...what,
        reason: this.form.reason,
        milliseconds: Math.max(0, Math.round(elapsed - this.hiddenFor)),
        rubric_version: this.rubric.version,
      };
      this.past.push(this.form);
      this.items.shift();
      this.form = blank();
      const how = body.strength ? `, ${STRENGTHS[body.strength - 1]}` : "";
      this.say(
        body.ratings
          ? `Noted: rated ${body.ratings.left} and ${body.ratings.right}.`
          : `Noted: ${SAID[body.verdict]}${how}.`,
      );
      if (!this.item) this.state = "loading";
      this.outbox.add(body);
      this.unsent = this.outbox.entries().length;
      this.fill();
    },
    async undo() {
      if (this.undoing || this.ended) return;
      if (this.away) return this.say("The server is away; undo when it is back.");
      this.undoing = true;
      await Promise.all([this.outbox.flush(), this.filling]);
      const undone = await this.ask("POST", "undo", { key: newKey() });
      this.undoing = false;
      if (undone === null) return;
      const form = this.past.pop() ?? blank();
      if (undone.item) {
        const others = this.items.filter((item) => item.key !== undone.item.key);
        this.items = [undone.item, ...others];
        this.state = "item";
        this.form = form;
      }
      this.say("Undone: here it is again.");
      this.progress = await this.ask("GET", `progress?kind=${this.mode}`);
    },
    weigh(strength) {
      if (this.item) this.form.strength = this.form.strength === strength ? null : strength;
    },
    rate(rating) {
      if (!this.item) return;
      this.form.ratings[this.side] = rating;
      if (this.side === "left") this.side = "right";
    },
    turnTo(side) {
      this.side = side;
    },

    // ------------------------------------------------------------ rubric
    async readRubric() {
      const rubric = await this.ask("GET", "rubric");
      if (rubric) this.rubric = rubric;
    },
    toggleRubric() {
      this.rubricOpen = !this.rubricOpen;
      localStorage.setItem("foundling/rubric", this.rubricOpen ? "open" : "closed");
    },
    edit() {
      this.edited = this.rubric.text;
      this.editing = true;
      this.$nextTick(() => this.$refs.rubric.focus());
    },
    async saveRubric() {
      const saved = await this.ask("PUT", "rubric", { text: this.edited });
      if (saved === null) return;
      this.editing = false;
      await this.readRubric();
      this.say(`The rubric is version ${saved.version} now.`);
    },

    // ------------------------------------------------------------ keys and words
    pressed(event) {
      if (this.ended || (!this.keysOn && event.key !== "?" && event.key !== "Escape")) return;
      const action = actionOf(event, this.kind);
      if (action === null) return;
      event.preventDefault();
      this[action[0]](action[1]);
    },
    clicked(event, verdict) {
      if (event.detail < 2) this.vote(verdict); // not the second click of a double one
    },
    toReason() {
      this.$refs.reason?.focus();
    },
    leaveField() {
      document.activeElement.blur();
    },
    help() {
      this.$refs.help.showModal();
    },
    rememberKeys() {
      localStorage.setItem("foundling/keys", this.keysOn ? "on" : "off");
    },
    say(words) {
      this.said = { words, number: (this.said?.number ?? 0) + 1 }; // the same words again are news
    },
    seen() {
      if (document.hidden) this.hiddenSince = performance.now();
      else if (this.hiddenSince !== undefined) this.hiddenFor += performance.now() - this.hiddenSince;
    },
  },
};
