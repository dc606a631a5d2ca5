/** The section Product: the whole scene, or the part in view, is mapped into files by a job of the server. */

import { dismissJob, fetchJobs, fetchProduct, submitMap } from "./api.js";
import { asked, forgetOthers, remember } from "./asked.js";
import { described, follow, isOpen } from "./jobs.js";
import { failureEntries, fileEntries, missingText, outlineOf } from "./product_entries.js";

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(`product${id && `-${id}`}`);

const LOOK_AGAIN_MS = 3000;

/**
 * @typedef {{scene: string, model: string}} Shown
 * @typedef {import("./api.js").Job} Job
 * @typedef {import("./api.js").MapRequest} MapRequest
 */

export class Product {
  #abort = new AbortController();
  /** @type {Shown | null} */
  #shown = null;
  /** What the job that is shown was asked, if it was asked here. @type {MapRequest | null} */
  #request = null;
  /** @type {Job | null} */
  #job = null;

  /**
   * @param {import("./vendor/maplibre-gl/maplibre-gl.mjs").Map} map
   * @param {Promise<unknown>} ready when the map takes sources and layers
   * @param {object} view
   * @param {() => [number, number, number, number] | null} view.extent what is in view: west, south, east, north;
   *   null for the whole world
   * @param {() => void} view.mapped called when a job has ended: tiles may show more than before
   */
  constructor(map, ready, view) {
    this.map = map;
    this.view = view;
    this.ready = ready.then(() => {
      map.addSource("product", { type: "geojson", data: outlineOf() });
      const paint = { "line-color": "#1f2623", "line-width": 1.5, "line-dasharray": [4, 3] };
      map.addLayer({ id: "product", type: "line", source: "product", paint });
    });
    element("").addEventListener("toggle", (event) => {
      if (event.target.open) event.target.scrollIntoView({ block: "nearest", behavior: "smooth" });
    });
    element("begin").addEventListener("click", () => this.#begin(this.#wanted()));
    element("again").addEventListener("click", () => this.#begin(this.#request));
    element("holes").addEventListener("click", () => this.#begin({ ...this.#request, allow_missing: true }));
    element("cancel").addEventListener("click", () => this.#cancel());
  }

  /** Another scene or model is shown: go on with what is mapped, or was, of it. @param {Shown | null} shown */
  show(shown) {
    if (JSON.stringify(shown) === JSON.stringify(this.#shown)) return;
    this.#shown = shown;
    this.#start();
    element("form").disabled = !shown;
    if (shown) this.#persist((signal) => this.#look(shown, signal));
  }

  /** Forget what is shown, and stop listening. */
  #start() {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.#job = this.#request = null;
    this.#settle("idle", "");
  }

  /**
   * Show a state, with nothing in it but a sentence.
   * @param {"idle" | "asking" | "running" | "done" | "failed" | "cancelled"} state
   * @param {string} sentence
   * @param {string} [share] what the closed section tells
   */
  #settle(state, sentence, share = "") {
    const waited = element("wait").contains(document.activeElement);
    element("").dataset.state = state;
    element("share").textContent = share;
    element("note").textContent = sentence;
    element("form").hidden = state === "running";
    element("begin").disabled = state === "asking";
    element("wait").hidden = state !== "running";
    for (const id of ["again", "holes", "result"]) element(id).hidden = true;
    element("failures").replaceChildren();
    this.#complain("");
    this.#draw(state === "idle" || state === "cancelled" ? null : this.#request);
    if (waited && state !== "running") element("").querySelector("summary").focus({ preventScroll: true });
  }

  /** Find the newest job of what is shown, one that is under way before others. @param {Shown} shown @param {AbortSignal} signal */
  async #look(shown, signal) {
    const jobs = await fetchJobs(signal);
    forgetOthers(jobs.map(({ id }) => id));
    const known = jobs.filter(
      ({ type, scene, model, status }) =>
        type === "map" && scene === shown.scene && model === shown.model && status !== "dismissed",
    );
    const job = known.find(isOpen) ?? known[0];
    this.#complain("");
    if (job) await this.#take(job, signal);
  }

  /** Do something that may find the server away, and then find what there is as soon as it is back. @param {(signal: AbortSignal) => Promise<void>} work */
  async #persist(work) {
    const { signal } = this.#abort;
    const shown = /** @type {Shown} */ (this.#shown);
    try {
      await work(signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!error.passing) return this.#fail(error.message);
      this.#complain(error.message);
      setTimeout(() => !signal.aborted && this.#persist(() => this.#look(shown, signal)), LOOK_AGAIN_MS);
    }
  }

  /** What the form asks for. @returns {MapRequest} */
  #wanted() {
    const { scene, model } = /** @type {Shown} */ (this.#shown);
    const inView = /** @type {any} */ (document.querySelector("input[name=product-extent]:checked")).value === "view";
    const bbox = inView ? this.view.extent() : null;
    return {
      type: "map",
      scene,
      model,
      ...(bbox && { bbox }),
      confidence: "file",
      vectors: element("vectors").value,
      pmtiles: element("pmtiles").checked,
      allow_missing: false,
    };
  }

  /** @param {MapRequest | null} request */
  async #begin(request) {
    if (!request) return;
    this.#start();
    this.#request = request;
    const { signal } = this.#abort;
    this.#settle("asking", "Asking …");
    try {
      const job = await submitMap(request);
      remember(job.id, request); // even if something else is shown by now: it will be found again
      if (!signal.aborted) this.#persist(() => this.#take(job, signal, true));
    } catch (error) {
      if (!signal.aborted) this.#fail(error.message, error.passing);
    }
  }

  /**
   * Show a job, and follow it while it goes on.
   * @param {Job} job
   * @param {AbortSignal} signal
   * @param {boolean} [focus] whether the keyboard goes along
   */
  async #take(job, signal, focus = false) {
    this.#job = job;
    this.#request = asked()[job.id] ?? null;
    let ended = job;
    if (isOpen(job)) {
      const part = this.#request?.bbox ? "a part" : this.#request ? "all" : "all or a part";
      this.#settle("running", `Mapping ${part} of this scene.`);
      element("cancel").disabled = false;
      this.#tell(job);
      if (focus) element("cancel").focus({ preventScroll: true });
      const lost = (/** @type {string} */ sentence) => this.#complain(`${sentence} The job goes on when it is back.`);
      ended = await follow(job.id, signal, (now) => this.#tell(now), lost);
      this.view.mapped();
    }
    this.#job = ended;
    if (ended.status === "successful") await this.#showProduct(ended, signal);
    else if (ended.status === "failed") this.#showFailure(ended);
    else this.#settle("cancelled", "Cancelled.");
  }

  /** @param {Job} job */
  #tell(job) {
    element("progress").value = job.progress;
    element("message").textContent = described(job);
    element("share").textContent = `${job.progress} %`;
    this.#complain("");
  }

  async #cancel() {
    const job = this.#job;
    if (!job) return;
    element("cancel").disabled = true;
    try {
      await dismissJob(job.id); // its last event tells the rest
    } catch (error) {
      if (error.status === 409 || this.#job !== job) return; // it has ended meanwhile
      element("cancel").disabled = false;
      this.#complain(error.message);
    }
  }

  /** @param {Job} job @param {AbortSignal} signal */
  async #showProduct(job, signal) {
    const { files, holes } = await fetchProduct(job.id, signal);
    this.#settle("done", holes.length ? missingText(holes.length, job.blocks.total) : "Done.", "ready");
    element("files").replaceChildren(...fileEntries(files));
    element("failures").replaceChildren(...failureEntries(holes, holes.length));
    element("result").hidden = false;
    element("result").scrollIntoView({ block: "nearest" });
  }

  /** @param {string} sentence @param {boolean} [again] whether the same may succeed later */
  #fail(sentence, again = true) {
    this.#settle("failed", "", "failed");
    this.#complain(sentence);
    element("again").hidden = !again || !this.#request;
  }

  /** @param {Job} job */
  #showFailure(job) {
    const { blocks, failures, message } = job;
    const { failed, total } = blocks;
    this.#fail(failed ? `${failed} of ${total} blocks cannot be mapped. The others are kept.` : message);
    element("failures").replaceChildren(...failureEntries(failures, failed));
    element("failures").scrollIntoView({ block: "nearest" });
    element("holes").hidden = !this.#request || this.#request.allow_missing || !failed || failed === total;
  }

  /** Draw the edge of the part that was asked for. @param {MapRequest | null} request */
  async #draw(request) {
    await this.ready;
    this.map.getSource("product").setData(outlineOf(request?.bbox));
  }

  /** @param {string} sentence */
  #complain(sentence) {
    if (element("problem").textContent !== sentence) element("problem").textContent = sentence;
  }
}
