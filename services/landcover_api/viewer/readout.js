/** The class and confidence under the pointer, at a tap, or at the middle of the map for those who use the keyboard. */

import { fetchPoint } from "./api.js";

const SETTLE_MS = 70;
const ASK_AGAIN_MS = 2000;

export class Readout {
  #box = /** @type {HTMLElement} */ (document.getElementById("readout"));
  #name = /** @type {HTMLElement} */ (document.getElementById("readout-name"));
  #confidence = /** @type {HTMLElement} */ (document.getElementById("readout-confidence"));
  #abort = new AbortController();
  #timer = 0;

  /**
   * @param {import("./vendor/maplibre-gl/maplibre-gl.mjs").Map} map
   * @param {() => {scene: import("./api.js").Scene, model: string} | null} subject what is asked about, if anything
   */
  constructor(map, subject) {
    this.map = map;
    this.subject = subject;
    const canvas = map.getCanvas();
    map.on("mousemove", (event) => this.#look(event.lngLat));
    map.on("click", (event) => this.#look(event.lngLat));
    map.on("mouseout", () => this.hide());
    map.on("moveend", () => this.#fromKeyboard() && this.#look(map.getCenter()));
    canvas.addEventListener("focus", () => this.#fromKeyboard() && this.#look(map.getCenter()));
    canvas.addEventListener("blur", () => this.hide());
  }

  #fromKeyboard() {
    return this.map.getCanvas().matches(":focus-visible");
  }

  hide() {
    this.#cancel();
    this.#box.hidden = true;
  }

  #cancel() {
    clearTimeout(this.#timer);
    this.#abort.abort();
  }

  /** @param {{lng: number, lat: number}} place @param {number} [delayMs] */
  #look(place, delayMs = SETTLE_MS) {
    this.#cancel();
    const subject = this.subject();
    if (!subject || !within(subject.scene.bounds, place)) {
      this.#box.hidden = true;
      return;
    }
    this.#box.setAttribute("aria-live", this.#fromKeyboard() ? "polite" : "off");
    const abort = (this.#abort = new AbortController());
    this.#timer = setTimeout(async () => {
      try {
        const answer = await fetchPoint(subject.scene.id, subject.model, place, abort.signal);
        if (abort.signal.aborted) return;
        this.#show(answer);
        if (answer.pending) this.#look(place, ASK_AGAIN_MS);
      } catch {
        // A layer that fails says so itself; here an old answer must not stay under a new place.
        if (!abort.signal.aborted) this.#box.hidden = true;
      }
    }, delayMs);
  }

  /** @param {import("./api.js").PointAnswer} answer */
  #show({ value, name, color, confidence, pending }) {
    const known = value > 0 && !pending;
    this.#box.hidden = false;
    this.#box.dataset.value = String(value);
    /** @type {HTMLElement} */ (this.#box.querySelector(".swatch")).style.background = known ? (color ?? "") : "";
    this.#name.textContent = pending ? "not mapped yet" : known ? name : "no data";
    this.#confidence.textContent =
      known && confidence !== null ? `${Math.round(confidence * 100)} %` : "";
    this.#confidence.title = "confidence";
  }
}

/** @param {[number, number, number, number]} bounds @param {{lng: number, lat: number}} place */
const within = ([west, south, east, north], { lng, lat }) =>
  lng >= west && lng <= east && lat >= south && lat <= north;
