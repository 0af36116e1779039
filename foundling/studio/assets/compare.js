// One annotator's desk: shows items that are there already, and keeps votes until they are safe.

import { createApp } from "/assets/vue.js";
import { actionOf, HELP, isField } from "/assets/keys.js";
import { call, newKey, Outbox, pause, Refused } from "/assets/interface.js";
import Passage from "/assets/passage.js";
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
const shown = ({ kind, prompt, left, right }) => JSON.stringify([kind, prompt, left, right]);
const isBlank = (form) => JSON.stringify(form) === JSON.stringify(blank());
const setting = (name, otherwise) => localStorage.getItem(`foundling/${name}`) ?? otherwise;

const Desk = {
  template: TEMPLATE,
  components: { Passage },
  props: { token: String },
  data() {
    return {
      me: null, // name, database, kinds, may_edit_rubric
      mode: null,
      items: {}, // by kind; each with the form that is being filled in for it
      state: "loading",
      side: "left", // that a digit rates
      progress: null,
      unsent: 0,
      refusals: [],
      others: 0,
      away: false,
      notice: null,
      ended: "",
      said: null,
      rubric: { version: null, text: "", earlier: [] },
      rubricOpen: setting("rubric", innerWidth < 700 ? "closed" : "open") === "open",
      detailsOpen: false, // on phones
      raw: setting("raw", "off") === "on",
      editing: false,
      edited: "",
      keysOn: setting("keys", "on") === "on",
      STRENGTHS,
      HELP,
    };
  },
  computed: {
    here() {
      return this.items[this.mode] ?? [];
    },
    item() {
      return this.here[0] ?? null;
    },
    form() {
      return this.item?.form ?? blank();
    },
    kind() {
      return this.item?.kind ?? this.mode ?? "comparison";
    },
    answers() {
      return [
        { side: "left", title: "First answer", text: this.item.left, html: this.item.html.left },
        { side: "right", title: "Second answer", text: this.item.right, html: this.item.html.right },
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
      return this.me?.kinds[this.me.kinds.indexOf(this.mode) + 1] ?? null;
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
    this.past = []; // items judged on this page, for an undo to give their forms back
    this.typing = false; // until the person does something else: no letter becomes a vote before
    const listeners = { keydown: this.pressed, pointerdown: this.acted, focusin: this.focused };
    for (const [name, listener] of Object.entries(listeners)) document.addEventListener(name, listener);
    document.addEventListener("visibilitychange", this.seen);
    window.addEventListener("storage", this.storedElsewhere);
    new ResizeObserver(() => {
      document.documentElement.style.setProperty("--bar", `${this.$refs.foot.offsetHeight}px`);
    }).observe(this.$refs.foot);
    this.me = await this.ask("GET", "me");
    if (this.me === null) return;
    this.mode = this.me.kinds[0];
    this.outbox = new Outbox(this.me.database, this.me.name, (body) => call(this.token, "POST", "votes", body), {
      kept: (body, receipt) => {
        this.progress = receipt.progress;
        this.back();
      },
      refused: (body, error) => {
        if (error.status === 401) this.end(error.message);
        else this.say(`A vote was not kept: ${error.message}`);
        this.back();
      },
      away: () => (this.away = true),
    });
    this.count();
    await this.outbox.flush();
    await Promise.all([this.fill(), this.readRubric()]);
  },
  methods: {
    // ------------------------------------------------------------ items
    /** Fetches until enough items are on the page; one fetch at a time. */
    fill() {
      this.filling ??= this.fetchItems().finally(() => (this.filling = null));
      return this.filling;
    },
    async fetchItems() {
      while (this.here.length < AHEAD && !this.ended) {
        const holding = [...this.here, ...this.outbox.entries().map((entry) => entry.body)].map((one) => one.key);
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
        await this.add(given.item);
      }
    },
    /** Puts an item on the page, after the others or in place of the first. */
    async add(item, form, first = false) {
      const html = await this.ask("GET", `items/${item.key}`);
      const others = (this.items[item.kind] ?? []).filter((one) => one.key !== item.key);
      if (html === null || (!first && others.length < (this.items[item.kind] ?? []).length)) return;
      const draft = JSON.parse(sessionStorage.getItem("foundling/draft") ?? "[null, null]");
      const restored = draft[0] === item.key && form === undefined && !isBlank(draft[1]);
      const filled = { ...item, html, form: form ?? (restored ? draft[1] : blank()) };
      this.items[item.kind] = first ? [filled, ...others] : [...others, filled];
      if (restored && draft[1].reason) {
        this.typing = true;
        this.detailsOpen = true;
        this.$nextTick(this.toReason);
      }
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
            this.back();
            if (error.status === 401) this.end(error.message);
            else if (!path.startsWith("items/")) this.say(error.message);
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
      this.count();
    },
    count() {
      if (!this.outbox) return;
      this.unsent = this.outbox.waiting().length;
      this.refusals = this.outbox.refusals();
      this.others = this.outbox.others();
    },
    /** The token does not work: for good, or while another database is served at this address. */
    end(why) {
      this.ended = why;
      if (!this.me) return;
      clearTimeout(this.revival);
      this.revival = setTimeout(async () => {
        const me = await call(this.token, "GET", "me").catch(() => null);
        if (me === null) return this.end(why);
        this.ended = "";
        await this.outbox.flush();
        this.fill();
      }, 3000);
    },
    turnToKind(kind) {
      this.mode = kind;
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
      this.outbox.add(body); // first: where it cannot be stored, the item stays
      this.past.push(this.item);
      this.here.shift();
      this.say(`Noted: ${this.told(body)}.`);
      if (!this.item) this.state = "loading";
      this.$refs.main.focus({ preventScroll: true }); // a button would take the next Space
      this.count();
      this.fill();
    },
    votes(count) {
      return count === 1 ? "1 vote" : `${count} votes`;
    },
    told(body) {
      if (body.ratings) return `rated ${body.ratings.left} and ${body.ratings.right}`;
      return SAID[body.verdict] + (body.strength ? `, ${STRENGTHS[body.strength - 1]}` : "");
    },
    sendAgain(entry) {
      this.outbox.write({ ...entry, refused: undefined });
      this.count();
      this.outbox.flush();
    },
    discard(entry) {
      this.outbox.discard(entry.body);
      this.count();
    },
    async undo() {
      if (this.undoing || this.ended) return;
      if (this.away) return this.say("The server is away; undo when it is back.");
      this.undoing = true;
      await Promise.all([this.outbox.flush(), this.filling]);
      const undone = await this.ask("POST", "undo", { key: newKey() });
      this.undoing = false;
      if (undone === null) return;
      if (undone.item) {
        // The last vote may be another window's; this page's later ones were then undone there.
        const at = this.past.findLastIndex((one) => shown(one) === shown(undone.item));
        const form = at < 0 ? blank() : this.past.splice(at)[0].form;
        await this.add(undone.item, form, true);
        this.state = "item";
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

    // ------------------------------------------------------------ other windows of the annotator
    storedElsewhere(event) {
      const key = event.newValue !== null && this.outbox?.itemOf(event.key);
      if (key) this.drop(key);
      this.count();
    },
    /** Takes an item off the page that was judged elsewhere, unless something is written about it. */
    drop(key) {
      const item = this.here.find((one) => one.key === key);
      if (!item) return;
      if (!isBlank(item.form)) return this.say("You have judged this pair in another window.");
      this.items[this.mode] = this.here.filter((one) => one !== item);
      if (!this.item) this.state = "loading";
      this.fill();
    },
    async seen() {
      if (document.hidden) return (this.hiddenSince = performance.now());
      if (this.hiddenSince !== undefined) this.hiddenFor += performance.now() - this.hiddenSince;
      for (const { key } of this.ended ? [] : [...this.here]) {
        await call(this.token, "GET", `items/${key}`).catch((error) => error.status === 409 && this.drop(key));
      }
    },

    // ------------------------------------------------------------ rubric
    async readRubric() {
      const rubric = await this.ask("GET", "rubric");
      if (rubric) this.rubric = rubric;
    },
    toggleRubric() {
      this.rubricOpen = !this.rubricOpen;
      this.remember("rubric", this.rubricOpen ? "open" : "closed");
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
      if (["Escape", "Tab"].includes(event.key)) this.typing = false;
      if (this.ended || (!this.keysOn && event.key !== "?" && event.key !== "Escape")) return;
      const action = actionOf(event, this.kind);
      if (action === null) return;
      event.preventDefault();
      if (this.typing && !isField(event.target)) {
        return this.say("Keys are off, as you were writing: press Escape, or click, to turn them on.");
      }
      this[action[0]](action[1]);
    },
    acted() {
      this.typing = false;
    },
    focused(event) {
      if (isField(event.target)) this.typing = true;
    },
    clicked(event, verdict) {
      if (event.detail < 2) this.vote(verdict); // not the second click of a double one
    },
    toReason() {
      this.detailsOpen = true;
      this.$nextTick(() => this.$refs.reason?.focus());
    },
    leaveField() {
      document.activeElement.blur();
    },
    help() {
      this.$refs.help.showModal();
    },
    toggleRaw() {
      this.raw = !this.raw;
      this.remember("raw", this.raw ? "on" : "off");
    },
    remember(name, value) {
      localStorage.setItem(`foundling/${name}`, value);
    },
    say(words) {
      this.said = { words, number: (this.said?.number ?? 0) + 1 }; // the same words again are news
    },
  },
};

createApp(Desk, { token: new URLSearchParams(location.search).get("token") }).mount(document.body);
