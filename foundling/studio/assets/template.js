// What the page shows. Every text is set as text: an answer can hold no markup.

export const TEMPLATE = `
<div class="desk" :data-state="ended ? 'ended' : item ? 'item' : state" :data-key="item?.key">
  <header class="top">
    <p class="mark">Foundling</p>
    <div class="progress" v-if="progress">
      <label for="progress">{{ done }} judged<span v-if="total > done"> · {{ total - done }} to go</span></label>
      <progress id="progress" :value="done" :max="Math.max(total, 1)"></progress>
    </div>
    <nav aria-label="Page">
      <div class="modes" v-if="kinds.length > 1" role="group" aria-label="What to do">
        <button v-for="one in kinds" type="button" :aria-pressed="mode === one" @click="turnToKind(one)">
          {{ one === "rating" ? "Rate" : "Compare" }}
        </button>
      </div>
      <button type="button" class="quiet" aria-keyshortcuts="u" :disabled="!!ended" @click="undo"><span>Undo</span> <kbd>U</kbd></button>
      <button type="button" class="quiet keys" @click="help"><span>Keys</span> <kbd>?</kbd></button>
    </nav>
  </header>

  <p class="banner" role="alert" v-if="away">The server is away. Your votes are kept here and sent when it is back.</p>
  <p class="banner" role="alert" v-if="notice">{{ notice }}</p>

  <main>
    <h1 class="unseen">Which answer is better?</h1>
    <section class="rubric" v-if="!ended" aria-label="Rubric">
      <button type="button" class="fold" :aria-expanded="rubricOpen" aria-controls="rubric" aria-keyshortcuts="g" @click="toggleRubric">
        <span class="caret" aria-hidden="true">›</span> Rubric<span v-if="rubric.version" class="version">version {{ rubric.version }}</span>
      </button>
      <div id="rubric" v-if="rubricOpen">
        <form v-if="editing" @submit.prevent="saveRubric">
          <label class="unseen" for="rubric-text">What makes an answer better</label>
          <textarea id="rubric-text" ref="rubric" v-model="edited" rows="6" maxlength="20000" required></textarea>
          <div class="row">
            <button type="submit" class="button primary" :disabled="!edited.trim()">Save as a new version</button>
            <button type="button" class="button" @click="editing = false">Cancel</button>
            <span class="hint">Votes note the version that was shown.</span>
          </div>
        </form>
        <template v-else>
          <p class="rubric-text" v-if="rubric.text">{{ rubric.text }}</p>
          <p class="hint" v-else>Nothing is agreed yet on what makes an answer better.</p>
          <div class="row">
            <button type="button" class="quiet" @click="edit">{{ rubric.text ? "Edit" : "Write one" }}</button>
            <details v-if="rubric.earlier.length" class="versions">
              <summary>Earlier versions ({{ rubric.earlier.length }})</summary>
              <article v-for="one in rubric.earlier" :key="one.version">
                <h3>Version {{ one.version }} <time>{{ new Date(one.created * 1000).toLocaleString() }}</time></h3>
                <p class="rubric-text">{{ one.text }}</p>
              </article>
            </details>
          </div>
        </template>
      </div>
    </section>

    <section class="state" v-if="ended">
      <h2>This page has ended</h2>
      <p>{{ ended }}</p>
      <p v-if="unsent">{{ unsent }} votes wait in this browser; they are sent when you join under the same name.</p>
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
      <h2>That was all. Thank you, {{ name }}.</h2>
      <p v-if="unsent">{{ unsent }} of your votes are still on their way; leave this page open.</p>
      <p v-else>{{ done }} judged; every vote is kept. You may close this page; should more come, it goes on by itself.</p>
      <button v-if="nextKind" type="button" class="button primary" @click="turnToKind(nextKind)">Now rate them from 1 to 7</button>
    </section>

    <template v-else>
      <section class="prompt" aria-label="Conversation" aria-live="polite">
        <div v-for="(turn, place) in item.prompt" :key="place" :class="['turn', turn.role]">
          <h2>{{ { user: "Question", assistant: "Earlier answer", system: "Setting" }[turn.role] ?? turn.role }}</h2>
          <p class="text">{{ turn.content }}</p>
        </div>
      </section>
      <div class="answers" :key="item.key">
        <article v-for="answer in answers" :key="answer.side" :class="['answer', { marked: kind === 'rating' && side === answer.side }]" :aria-labelledby="'title-' + answer.side" :data-side="answer.side">
          <header><h2 :id="'title-' + answer.side">{{ answer.title }}</h2><span class="here" v-if="kind === 'rating' && side === answer.side">keys 1–7</span></header>
          <p class="text" v-if="answer.text.trim()">{{ answer.text }}</p>
          <p class="hint" v-else>(an empty answer)</p>
          <fieldset class="scale" v-if="kind === 'rating'" @focusin="side = answer.side" @click="side = answer.side">
            <legend class="unseen">How good is the {{ answer.title.toLowerCase() }}?</legend>
            <span class="end" aria-hidden="true">bad</span>
            <label v-for="n in 7" :key="n"><input type="radio" :name="'rate-' + answer.side" :value="n" v-model="form.ratings[answer.side]" :aria-label="n + ' of 7'"><span aria-hidden="true">{{ n }}</span></label>
            <span class="end" aria-hidden="true">good</span>
          </fieldset>
        </article>
      </div>
    </template>
  </main>

  <section class="controls" v-if="item && !ended" aria-label="Your verdict">
    <div class="details">
      <fieldset class="strength" v-if="kind === 'comparison'">
        <legend>Better by how much?</legend>
        <label v-for="(word, place) in STRENGTHS" :key="word"><input type="radio" name="strength" :value="place + 1" v-model="form.strength"><span>{{ word }} <kbd>{{ "QWE"[place] }}</kbd></span></label>
      </fieldset>
      <label class="reason"><span class="unseen">Reason, if you like</span>
        <textarea ref="reason" id="reason" v-model="form.reason" rows="1" maxlength="10000" placeholder="Reason, if you like" aria-keyshortcuts="r"></textarea><kbd>R</kbd>
      </label>
    </div>
    <div class="verdicts" v-if="kind === 'comparison'">
      <button type="button" class="button choice" aria-keyshortcuts="1 ArrowLeft" @click="clicked($event, 'left')"><span>First<em> is better</em></span> <kbd>1</kbd></button>
      <button type="button" class="button" aria-keyshortcuts="t" @click="clicked($event, 'tie')"><span>Tie</span> <kbd>T</kbd></button>
      <button type="button" class="button" aria-keyshortcuts="b" @click="clicked($event, 'both_bad')"><span>Both bad</span> <kbd>B</kbd></button>
      <button type="button" class="button" aria-keyshortcuts="s" @click="clicked($event, 'skip')"><span>Skip</span> <kbd>S</kbd></button>
      <button type="button" class="button choice" aria-keyshortcuts="2 ArrowRight" @click="clicked($event, 'right')"><span>Second<em> is better</em></span> <kbd>2</kbd></button>
    </div>
    <div class="verdicts rating" v-else>
      <button type="button" class="button" aria-keyshortcuts="s" @click="clicked($event, 'skip')"><span>Skip</span> <kbd>S</kbd></button>
      <button type="button" class="button choice" :aria-disabled="!rated" @click="$event.detail < 2 && saveRatings()"><span>Save ratings</span> <kbd>Enter</kbd></button>
    </div>
  </section>
  <p class="said" role="status" aria-live="polite"><span v-if="said" :key="said.number">{{ said.words }}</span></p>

  <dialog ref="help" aria-labelledby="help-title">
    <h2 id="help-title">Keys</h2>
    <dl>
      <template v-for="[keys, meaning] in [...HELP[kind], ...HELP.always]" :key="keys"><dt>{{ keys }}</dt><dd>{{ meaning }}</dd></template>
    </dl>
    <label class="check"><input type="checkbox" v-model="keysOn" @change="rememberKeys"> Vote by keys</label>
    <form method="dialog"><button class="button primary" autofocus>Close</button></form>
  </dialog>
</div>
`;
