/** The review: the windows of the shown scene that are likely wrong, as a list and as outlines on the map. */

import { fetchReview } from "./api.js";

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

const NOTHING = { type: "FeatureCollection", features: [] };
const COLOR = "#c2255c";

export class Review {
  #abort = new AbortController();
  /** @type {{scene: string, model: string} | null} */
  #shown = null;

  /**
   * @param {import("./vendor/maplibre-gl/maplibre-gl.mjs").Map} map
   * @param {Promise<unknown>} ready when the map takes sources and layers
   * @param {(bounds: [number, number, number, number]) => void} flyTo
   */
  constructor(map, ready, flyTo) {
    this.map = map;
    this.flyTo = flyTo;
    this.ready = ready.then(() => {
      map.addSource("review", { type: "geojson", data: NOTHING, promoteId: "rank" });
      const chosen = ["boolean", ["feature-state", "chosen"], false];
      const paint = { "line-color": COLOR, "line-width": ["case", chosen, 4, 1.5] };
      map.addLayer({ id: "review", type: "line", source: "review", paint });
    });
    element("review").addEventListener("toggle", () => this.#update());
    element("review-again").addEventListener("click", () => this.#update());
  }

  /**
   * Rank another scene or model, if the list is open.
   * @param {{scene: string, model: string} | null} shown
   */
  show(shown) {
    if (JSON.stringify(shown) === JSON.stringify(this.#shown)) return;
    this.#shown = shown;
    this.#update();
  }

  async #update() {
    this.#abort.abort();
    const abort = (this.#abort = new AbortController());
    const open = element("review").open && this.#shown;
    element("review-list").replaceChildren();
    this.#say(open ? "Ranking …" : "");
    let found = NOTHING;
    try {
      if (open) found = await fetchReview(this.#shown.scene, this.#shown.model, abort.signal);
      await this.ready;
    } catch (error) {
      if (!abort.signal.aborted) this.#say(error.message);
      return;
    }
    if (abort.signal.aborted) return;
    this.map.removeFeatureState({ source: "review" });
    this.map.getSource("review").setData(found);
    element("review-list").append(...found.features.map((feature) => this.#entry(feature)));
    if (open) this.#say(found.note ?? "");
  }

  /** @param {import("./api.js").RankedWindow} feature */
  #entry({ bbox, properties: { rank, doubt, dominant_class: mostly } }) {
    const button = document.createElement("button");
    button.type = "button";
    const name = document.createElement("span");
    name.textContent = `${rank}. ${mostly ?? "window"}`;
    const figure = document.createElement("span");
    figure.className = "figure";
    figure.textContent = `${(100 * doubt).toFixed(1)} % doubt`;
    button.append(name, figure);
    button.addEventListener("click", () => {
      for (const other of element("review-list").querySelectorAll("[aria-current]")) other.removeAttribute("aria-current");
      button.setAttribute("aria-current", "true");
      this.map.removeFeatureState({ source: "review" });
      this.map.setFeatureState({ source: "review", id: rank }, { chosen: true });
      this.flyTo(bbox);
    });
    const entry = document.createElement("li");
    entry.append(button);
    return entry;
  }

  /** @param {string} sentence */
  #say(sentence) {
    element("review-note").textContent = sentence;
  }
}
