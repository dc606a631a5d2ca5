/** The two messages over the map: tiles are being mapped, and something is wrong. */

import { fetchTrouble } from "./api.js";

const QUIET_MS = 350;
/** A tile that takes longer than this is being mapped, not just sent. */
const SLOW_MS = 1200;
const STALLED_MS = 12_000;

/** @param {string} id */
const element = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

export class Busy {
  /** @type {import("./tiles.js").Progress} */
  #last = { tiles: 0, unfinished: 0, blocks: 0, problem: null };
  #begun = 0;
  #moved = 0;
  #timer = 0;
  #advice = "";

  /** @param {() => import("./tiles.js").Progress} measure progress over the tiles in view */
  constructor(measure) {
    this.measure = measure;
  }

  /** Look again; called whenever a tile or the view changed, and by itself while something is unfinished. */
  update() {
    clearTimeout(this.#timer);
    const progress = this.measure();
    const { tiles, unfinished, blocks } = progress;
    const last = this.#last;
    const now = performance.now();
    if (!last.unfinished) this.#begun = now;
    if (!last.unfinished || tiles !== last.tiles || unfinished < last.unfinished || blocks < last.blocks) {
      this.#moved = now;
      this.#advice = "";
    }
    this.#last = progress;
    const age = now - this.#begun;
    const mapping = blocks > 0 || age > SLOW_MS;
    element("busy").hidden = !unfinished || age < QUIET_MS;
    element("busy-text").textContent =
      this.#advice || (mapping ? `Mapping… ${tiles - unfinished} of ${tiles} tiles ready` : "Loading…");
    if (!unfinished) return;
    if (now - this.#moved > STALLED_MS && !this.#advice) this.#advise();
    this.#timer = setTimeout(() => this.update(), QUIET_MS);
  }

  /** Nothing has come back for a while: say why, as far as the server knows. */
  async #advise() {
    this.#advice = "Still mapping, but nothing has come back for a while. The map fills in by itself when it does.";
    const trouble = await fetchTrouble();
    if (trouble && this.#advice) this.#advice = `${trouble} The map fills in by itself when that is over.`;
  }
}

/** Show a sentence, or nothing. @param {string | null | undefined} sentence */
export function showProblem(sentence) {
  const box = element("problem");
  if (box.textContent !== (sentence ?? "")) box.textContent = sentence ?? "";
  box.hidden = !sentence;
}
