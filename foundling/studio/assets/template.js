// What the page shows. Texts are set as text; answers are HTML that the server has sanitised.

export const TEMPLATE = `
<div class="desk" :data-state="ended ? 'ended' : item ? 'item' : state" :data-key="item?.key">
  <header class="top">
    <p class="mark">Foundling</p>
    <div class="progress" v-if="progress">
      <label for="progress">{{ done }} judged<span v-if="total > done"> · {{ total - done }} to go</span></label>
      <progress id="progress" :value="done" :max="Math.max(total, 1)"></progress>
    </div>
    <nav aria-label="Page">
      <div class="modes" v-if="me?.kinds.length > 1" role="group" aria-label="What to do">
        <button v-for="one in me.kinds" type="button" :aria-pressed="mode === one" @click="turnToKind(one)">
          {{ one === "rating" ? "Rate" : "Compare" }}
        </button>
      </div>
      <button type="button" class="quiet" aria-keyshortcuts="m" :aria-pressed="raw" @click="toggleRaw"><span>Raw text</span> <kbd>M</kbd></button>
      <button type="button" class="quiet" aria-keyshortcuts="u" :disabled="!!ended" @click="undo"><span>Undo</span> <kbd>U</kbd></button>
      <button type="button" class="quiet keys" @click="help"><span>Keys</span> <kbd>?</kbd></button>
    </nav>
  </header>

  <p class="banner" role="alert" v-if="away">The server is away. Your votes are kept here and sent when it is back.</p>
  <p class="banner" role="alert" v-if="notice">{{ notice }}</p>
  <p class="banner" v-if="others">{{ votes(others) }} kept in this browser for another collection that was served at this address, or for another annotator: sent when that link is opened again.</p>
  <section class="banner" role="alert" v-if="refusals.length" aria-label="Votes that were not kept">
    <article v-for="entry in refusals" :key="entry.body.key">
      <p>Not kept: {{ told(entry.body) }}<q v-if="entry.body.reason" dir="auto">{{ entry.body.reason }}</q>. The server says: {{ entry.refused }}</p>
      <button type="button" class="button" @click="sendAgain(entry)">Send again</button>
      <button type="button" class="button" @click="discard(entry)">Discard</button>
    </article>
  </section>

  <main ref="main" tabindex="-1">
    <h1 class="unseen">Which answer is better?</h1>
    <section class="rubric" v-if="!ended" aria-label="Rubric">
      <button type="button" class="fold" :aria-expanded="rubricOpen" aria-controls="rubric" aria-keyshortcuts="g" @click="toggleRubric">
        <span class="caret" aria-hidden="true">›</span> Rubric<span v-if="rubric.version" class="version">version {{ rubric.version }}</span>
      </button>
      <div id="rubric" v-if="rubricOpen">
        <form v-if="editing" @submit.prevent="saveRubric">
          <label class="unseen" for="rubric-text">What makes an answer better</label>
          <textarea id="rubric-text" ref="rubric" v-model="edited" dir="auto" rows="6" maxlength="20000" required></textarea>
          <div class="row">
            <button type="submit" class="button primary" :disabled="!edited.trim()">Save as a new version</button>
            <button type="button" class="button" @click="editing = false">Cancel</button>
            <span class="hint">Votes note the version that was shown.</span>
          </div>
        </form>
        <template v-else>
          <p class="rubric-text" dir="auto" v-if="rubric.text">{{ rubric.text }}</p>
          <p class="hint" v-else>Nothing is agreed yet on what makes an answer better.</p>
          <div class="row">
            <button v-if="me?.may_edit_rubric" type="button" class="quiet" @click="edit">{{ rubric.text ? "Edit" : "Write one" }}</button>
            <details v-if="rubric.earlier.length" class="versions">
              <summary>Earlier versions ({{ rubric.earlier.length }})</summary>
              <article v-for="one in rubric.earlier" :key="one.version">
                <h3>Version {{ one.version }} <time>{{ new Date(one.created * 1000).toLocaleString() }}</time></h3>
                <p class="rubric-text" dir="auto">{{ one.text }}</p>
              </article>
            </details>
          </div>
        </template>
      </div>
    </section>

    <section class="state" role="alert" v-if="ended && !me">
      <h2>This link does not work</h2>
      <p>Its token is unknown, or a newer link for the same name has replaced it.</p>
      <a class="button primary" href="/">Start over</a>
    </section>
    <section class="state" role="alert" v-else-if="ended">
      <h2>This page has ended</h2>
      <p>{{ ended }}</p>
      <p v-if="unsent">{{ votes(unsent) }} kept in this browser: sent when this link works again, or when you join under the same name.</p>
      <a class="button primary" href="/">Start over</a>
    </section>
    <section class="state" v-else-if="!item && state === 'loading'" aria-busy="true">
      <p class="pulse">One moment …</p>
    </section>
    <section class="state" v-else-if="!item && state === 'preparing'" aria-busy="true">
      <h2>Answers are being prepared</h2>
      <p class="pulse">The next one comes by itself as soon as it is written.</p>
    </section>
    <section class="state" role="status" v-else-if="!item">
      <p class="ornament" aria-hidden="true">❦</p>
      <h2>That was all. Thank you, <bdi>{{ me.name }}</bdi>.</h2>
      <p v-if="unsent">{{ votes(unsent) }} still on the way; leave this page open.</p>
      <p v-else>{{ done }} judged; every vote is kept. You may close this page; if it stays open, new items will appear here.</p>
      <button v-if="nextKind" type="button" class="button primary" @click="turnToKind(nextKind)">Now rate them from 1 to 7</button>
    </section>

    <template v-else>
      <section class="prompt" :key="'prompt-' + item.key" aria-label="Conversation" aria-live="polite">
        <div v-for="(turn, place) in item.prompt" :key="place" :class="['turn', turn.role]">
          <h2>{{ { user: "Question", assistant: "Earlier answer", system: "Setting" }[turn.role] ?? turn.role }}</h2>
          <Passage :text="turn.content" :html="item.html.prompt[place].content" :raw="raw" />
        </div>
      </section>
      <div class="answers" :key="item.key">
        <article v-for="answer in answers" :key="answer.side" :class="['answer', { marked: kind === 'rating' && side === answer.side }]" :aria-labelledby="'title-' + answer.side" :data-side="answer.side">
          <header><h2 :id="'title-' + answer.side">{{ answer.title }}</h2></header>
          <Passage v-if="answer.text.trim()" :text="answer.text" :html="answer.html" :raw="raw" />
          <p class="hint" v-else>(an empty answer)</p>
        </article>
      </div>
    </template>
  </main>

  <div class="foot" ref="foot">
  <p class="said" role="status" aria-live="polite"><span v-if="said" :key="said.number">{{ said.words }}</span></p>
  <section class="controls" v-if="item" aria-label="Your verdict">
    <div class="scales" v-if="kind === 'rating'">
      <fieldset v-for="answer in answers" :key="answer.side" :class="['scale', { marked: side === answer.side }]" @focusin="side = answer.side" @click="side = answer.side">
        <legend class="unseen">How good is the {{ answer.title.toLowerCase() }}?</legend>
        <span class="whose" :data-short="answer.side === 'left' ? '1st' : '2nd'" aria-hidden="true">{{ answer.title.split(" ")[0] }}</span>
        <label v-for="n in 7" :key="n"><input type="radio" :name="'rate-' + answer.side" :value="n" v-model="form.ratings[answer.side]" :aria-label="n + ' of 7'"><span aria-hidden="true">{{ n }}</span></label>
        <kbd :class="{ away: side !== answer.side }">1–7</kbd>
      </fieldset>
    </div>
    <button type="button" class="quiet more" :aria-expanded="detailsOpen" aria-controls="details" @click="detailsOpen = !detailsOpen">
      <span class="caret" aria-hidden="true">›</span> {{ kind === "comparison" ? "By how much, and why" : "Why" }}
    </button>
    <div id="details" :class="['details', { open: detailsOpen }]">
      <fieldset class="strength" v-if="kind === 'comparison'">
        <legend>Better by how much?</legend>
        <label v-for="(word, place) in STRENGTHS" :key="word"><input type="radio" name="strength" :value="place + 1" v-model="form.strength"><span>{{ word }} <kbd>{{ "QWE"[place] }}</kbd></span></label>
      </fieldset>
      <label class="reason"><span class="unseen">Reason, if you like</span>
        <textarea ref="reason" id="reason" v-model="form.reason" dir="auto" rows="1" maxlength="10000" placeholder="Reason, if you like" aria-keyshortcuts="r"></textarea><kbd>R</kbd>
      </label>
    </div>
    <div class="verdicts" v-if="kind === 'comparison'">
      <button type="button" class="button choice" :disabled="!!ended" aria-keyshortcuts="1 ArrowLeft" @click="clicked($event, 'left')"><span>First<em> is better</em></span> <kbd>1</kbd></button>
      <button type="button" class="button" :disabled="!!ended" aria-keyshortcuts="t" @click="clicked($event, 'tie')"><span>Tie</span> <kbd>T</kbd></button>
      <button type="button" class="button" :disabled="!!ended" aria-keyshortcuts="b" @click="clicked($event, 'both_bad')"><span>Both bad</span> <kbd>B</kbd></button>
      <button type="button" class="button" :disabled="!!ended" aria-keyshortcuts="s" @click="clicked($event, 'skip')"><span>Skip</span> <kbd>S</kbd></button>
      <button type="button" class="button choice" :disabled="!!ended" aria-keyshortcuts="2 ArrowRight" @click="clicked($event, 'right')"><span>Second<em> is better</em></span> <kbd>2</kbd></button>
    </div>
    <div class="verdicts rating" v-else>
      <button type="button" class="button" :disabled="!!ended" aria-keyshortcuts="s" @click="clicked($event, 'skip')"><span>Skip</span> <kbd>S</kbd></button>
      <button type="button" class="button choice" :disabled="!!ended" :aria-disabled="!rated" @click="$event.detail < 2 && saveRatings()"><span>Save ratings</span> <kbd>Enter</kbd></button>
    </div>
  </section>
  </div>

  <dialog ref="help" aria-labelledby="help-title">
    <h2 id="help-title">Keys</h2>
    <dl>
      <template v-for="[keys, meaning] in [...HELP[kind], ...HELP.always]" :key="keys"><dt>{{ keys }}</dt><dd>{{ meaning }}</dd></template>
    </dl>
    <label class="check"><input type="checkbox" v-model="keysOn" @change="remember('keys', keysOn ? 'on' : 'off')"> Vote by keys</label>
    <form method="dialog"><button class="button primary" autofocus>Close</button></form>
  </dialog>
</div>
`;
