// One text of somebody: as Markdown or as it was written, folded where it is very long.

const FOLD = 1.1; // windows that a folded text is high at most; it takes a third more to be folded

export default {
  template: `
<div class="passage">
  <div v-if="raw || !html" ref="text" :class="['text', 'raw', { folded }]" dir="auto">{{ text }}</div>
  <div v-else ref="text" :class="['text', { folded }]" dir="auto" v-html="html"></div>
  <button v-if="long" type="button" class="button unfold" :aria-expanded="open" @click="toggle">
    {{ open ? "Show less" : "Show all of it" }}
  </button>
</div>`,
  props: { text: String, html: String, raw: Boolean },
  data() {
    return { long: false, open: false };
  },
  computed: {
    folded() {
      return this.long && !this.open;
    },
  },
  watch: {
    raw() {
      this.$nextTick(this.measure);
    },
  },
  mounted() {
    this.measure();
    window.addEventListener("resize", this.measure);
  },
  unmounted() {
    window.removeEventListener("resize", this.measure);
  },
  methods: {
    measure() {
      this.long = this.$refs.text.scrollHeight > FOLD * 1.33 * innerHeight;
    },
    toggle() {
      this.open = !this.open;
      if (!this.open) this.$nextTick(() => this.$el.scrollIntoView({ block: "nearest" }));
    },
  },
};
