/** The section Area: how much of each class lies inside polygons that are drawn, or come from a file. */

import { dismissJob, fetchJob, fetchJobResult, fetchStatistics } from "./api.js";
import { areaText, classEntry, coverageText, titleOf, withText } from "./figures.js";
import { described, isOpen, pause } from "./jobs.js";
import { boundsOf, closed } from "./polygons.js";
import { Sketch } from "./sketch.js";

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

const NOTHING = { type: "FeatureCollection", features: [] };

/** @typedef {{scene: string, model: string}} Shown */
/** @typedef {import("./api.js").Statistics} Statistics */

export class Area {
  #abort = new AbortController();
  /** @type {Shown | null} */
  #shown = null;
  /** The GeoJSON that is asked about, as text. @type {string | null} */
  #body = null;
  /** @type {import("./api.js").MeasuredFeature[]} */
  #features = [];
  /** @type {{text: string, job: string | null} | null} */
  #result = null;
  /** @type {string | null} */
  #job = null;

  /**
   * @param {import("./vendor/maplibre-gl/maplibre-gl.mjs").Map} map
   * @param {Promise<unknown>} ready when the map takes sources and layers
   * @param {object} view
   * @param {(bounds: [number, number, number, number]) => void} view.flyTo
   * @param {(visible: boolean) => void} view.showPanel where it covers the map
   */
  constructor(map, ready, view) {
    this.map = map;
    this.view = view;
    this.ready = ready.then(() => {
      map.addSource("area", { type: "geojson", data: NOTHING });
      const chosen = ["==", ["get", "number"], 0];
      const add = (/** @type {object} */ layer) => map.addLayer({ source: "area", type: "line", ...layer });
      add({ id: "area-casing", paint: { "line-color": "#fff", "line-width": 5 } });
      add({ id: "area-line", paint: { "line-color": "#1f2623", "line-width": 2 } });
      add({ id: "area-chosen", filter: chosen, paint: { "line-color": "#c2255c", "line-width": 3 } });
    });
    this.sketch = new Sketch(map, ready, {
      done: (polygon) => this.#measure(JSON.stringify(polygon)),
      ended: () => this.#drawingEnds(),
    });
    element("area").addEventListener("toggle", (event) => {
      if (event.target.open) event.target.scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
    element("area-draw").addEventListener("click", () => this.#draw());
    element("area-open").addEventListener("click", () => element("area-file").click());
    element("area-file").addEventListener("change", (event) => this.#read(event.target.files[0]));
    element("area-clear").addEventListener("click", () => this.#clear());
    element("area-again").addEventListener("click", () => this.#body && this.#measure(this.#body));
    element("area-cancel").addEventListener("click", () => this.#cancel());
    element("area-feature").addEventListener("change", () => this.#showFeature());
    element("area-json").addEventListener("click", () => this.#saveJson());
    element("area-csv").addEventListener("click", () => this.#saveCsv());
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => {
      event.preventDefault();
      this.#read(event.dataTransfer?.files[0]);
    });
  }

  /** Another scene or model is shown: what was drawn is measured by that model, or forgotten with its scene. */
  show(/** @type {Shown | null} */ shown) {
    const before = this.#shown;
    if (JSON.stringify(shown) === JSON.stringify(before)) return;
    this.#shown = shown;
    for (const id of ["area-draw", "area-open"]) element(id).disabled = !shown;
    if (shown?.scene !== before?.scene) this.#clear();
    else if (this.#body) this.#measure(this.#body);
  }

  #draw() {
    this.#clear();
    this.view.showPanel(false);
    this.sketch.begin();
  }

  #drawingEnds() {
    this.view.showPanel(true);
    element("area").open = true;
    element("area-draw").focus({ preventScroll: true });
  }

  /** @param {File | undefined} file */
  async #read(file) {
    element("area-file").value = ""; // so that the same file may be chosen again
    if (!file) return;
    element("area").open = true;
    if (!this.#shown) return this.#complain("There is nothing to measure in: choose a scene that can be read, and a model.");
    this.#clear();
    this.view.showPanel(true);
    const text = await file.text();
    this.#measure(text, file.name);
  }

  #clear() {
    this.sketch.cancel();
    this.#body = null;
    this.#start();
    this.#draws(NOTHING);
    element("area-clear").hidden = true;
    element("area").dataset.state = "empty";
  }

  /** Forget what was found, and whoever is still asking. */
  #start() {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#job = this.#result = null;
    this.#features = [];
    element("area-result").hidden = element("area-again").hidden = element("area-wait").hidden = true;
    this.#say("");
    this.#complain("");
  }

  /** @param {string} body @param {string} [name] of the file that it comes from */
  async #measure(body, name) {
    this.#start();
    this.#body = body;
    const { signal } = this.#abort;
    element("area").dataset.state = "measuring";
    element("area-clear").hidden = false;
    this.#say("Measuring …");
    try {
      const asked = parsed(body, name);
      if (!name) this.#draws(asked); // what comes from a file is drawn when the server has found no fault in it
      const { scene, model } = /** @type {Shown} */ (this.#shown);
      const { text, job } = await fetchStatistics(scene, model, body, signal);
      if (job) this.#draws(asked);
      const result = job ? await this.#follow(job, signal) : text;
      this.#show(result ?? "", job?.id ?? null, Boolean(name));
    } catch (error) {
      if (signal.aborted) return;
      this.#say("");
      element("area-wait").hidden = true;
      element("area").dataset.state = "failed";
      element("area-again").hidden = !error.passing;
      this.#complain(error.message);
    }
  }

  /** Wait for a job and give what comes out of it. @param {import("./api.js").Job} job @param {AbortSignal} signal */
  async #follow(job, signal) {
    this.#job = job.id;
    element("area-wait").hidden = false;
    let status = job;
    while (isOpen(status)) {
      element("area-progress").value = status.progress;
      this.#say(`Mapping what is missing: ${described(status)}`);
      await pause(1000, signal);
      try {
        status = await fetchJob(job.id, signal);
      } catch (error) {
        if (signal.aborted || !error.passing) throw error;
        this.#say(error.message); // and ask again: the job outlasts the server
      }
    }
    element("area-wait").hidden = true;
    this.#job = null;
    return fetchJobResult(job.id, signal);
  }

  async #cancel() {
    const job = this.#job;
    this.#start();
    element("area").dataset.state = "failed";
    element("area-again").hidden = false;
    this.#say("Cancelled; what was mapped so far is kept.");
    try {
      if (job) await dismissJob(job);
    } catch (error) {
      this.#complain(error.message);
    }
  }

  /** @param {string} text @param {string | null} job @param {boolean} fly */
  #show(text, job, fly) {
    const answer = JSON.parse(text);
    this.#result = { text, job };
    this.#features = answer.type === "FeatureCollection" ? answer.features : [answer];
    this.#draws(answer);
    this.#say("");
    if (fly) this.view.flyTo(boundsOf(this.#features));
    const options = this.#features.map((feature, i) => new Option(titleOf(feature, i), String(i)));
    element("area-feature").replaceChildren(...options);
    element("area-feature").hidden = options.length < 2;
    this.#showFeature();
    element("area-result").hidden = false;
    element("area").dataset.state = "measured";
    element("area-result").scrollIntoView({ block: "nearest" });
  }

  #showFeature() {
    const number = Number(element("area-feature").value);
    const { statistics } = this.#features[number].properties;
    const several = this.#features.length > 1;
    this.ready.then(() => this.map.setFilter("area-chosen", ["==", ["get", "number"], several ? number + 1 : 0]));
    element("area-total").textContent = areaText(statistics.total_area_m2);
    element("area-coverage").textContent = coverageText(statistics);
    const found = statistics.classes.filter(({ area_m2 }) => area_m2 > 0).sort((a, b) => b.area_m2 - a.area_m2);
    const most = Math.max(...found.map((each) => Math.max(each.area_m2, each.adjusted_ci95_m2?.[1] ?? 0)));
    element("area-classes").replaceChildren(...found.map((each) => classEntry(each, most)));
    const absent = statistics.classes.filter(({ area_m2 }) => !area_m2).map(({ name }) => name);
    const notes = [...(statistics.notes ?? []), ...(absent.length && found.length ? [`None: ${absent.join(", ")}.`] : [])];
    element("area-notes").replaceChildren(...notes.map((note) => withText("li", "", note)));
    element("area-legend").hidden = !found.some((each) => each.adjusted_ci95_m2);
  }

  #saveJson() {
    if (this.#result) save(this.#result.text, "application/geo+json", `${this.#shown?.scene}-statistics.geojson`);
  }

  async #saveCsv() {
    const result = this.#result;
    if (!result || !this.#shown || !this.#body) return;
    const { scene, model } = this.#shown;
    this.#complain("");
    try {
      const { signal } = this.#abort;
      const csv = result.job
        ? await fetchJobResult(result.job, signal, "text/csv")
        : (await fetchStatistics(scene, model, this.#body, signal, "text/csv")).text;
      save(csv, "text/csv", `${scene}-statistics.csv`);
    } catch (error) {
      if (error.name !== "AbortError") this.#complain(error.message);
    }
  }

  /** Draw polygons, numbered from 1. @param {any} geojson */
  async #draws(geojson) {
    const features = geojson.type === "FeatureCollection" ? geojson.features : [geojson];
    const numbered = features.map((/** @type {any} */ each, /** @type {number} */ i) => ({
      type: "Feature",
      properties: { number: i + 1 },
      geometry: closed(each.type === "Feature" ? each.geometry : each),
    }));
    await this.ready;
    this.map.getSource("area").setData({ type: "FeatureCollection", features: numbered });
  }

  /** @param {string} sentence */
  #say(sentence) {
    element("area-note").textContent = sentence;
  }

  /** @param {string} sentence */
  #complain(sentence) {
    element("area-problem").textContent = sentence;
  }
}

/** @param {string} body @param {string} [name] */
function parsed(body, name) {
  try {
    return JSON.parse(body);
  } catch {
    throw new Error(`${name ?? "This"} is no GeoJSON; open a .geojson file with polygons in longitude and latitude.`);
  }
}

/** @param {string} content @param {string} type @param {string} name */
function save(content, type, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
