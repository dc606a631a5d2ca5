/**
 * How tiles are fetched: unfinished ones again until they are finished, failed ones again when that may help.
 *
 * MapLibre re-requests an expired tile by itself (`refreshExpiredTiles`), which is what an unfinished tile with
 * `Cache-Control: max-age=2` relies on. Three things it leaves undone, and why tiles go through a protocol here:
 *
 * - a tile that fails, even once while it is being refreshed, is dropped and never asked for again;
 * - a finished answer without `max-age` after an unfinished one leaves the old expiry in place, and the tile is
 *   then requested in a tight loop;
 * - nobody learns how many blocks are pending, or the sentence of an error.
 */

import { addProtocol, removeProtocol } from "./vendor/maplibre-gl/maplibre-gl.mjs";
import { ask, Problem } from "./api.js";

/**
 * @typedef {{key: string, state: "loading" | "pending" | "done" | "failed", pending: number, failures: number,
 *   drawn: ArrayBuffer | null, problem: Problem | null}} TileRecord
 * `drawn`: what the tile showed when it was last unfinished, kept for when its refresh fails
 * @typedef {{tiles: number, unfinished: number, blocks: number, problem: Problem | null}} Progress
 * `blocks`: pending blocks summed over tiles (a block counts once for each tile that shows it)
 */

const PENDING_RETRY_S = 2;
const FAILED_RETRY_S = [3, 6, 12, 30];
const LONGEST_REFRESH_S = 24 * 3600;
let schemes = 0;

/** The tiles of one map source. */
export class TileLoader extends EventTarget {
  /** @type {Map<string, TileRecord>} */
  #records = new Map();
  #free;
  /** @type {(() => void)[]} */
  #waiting = [];

  /**
   * @param {number} slots requests at once. A browser opens six connections to a host (HTTP/1.1); an unfinished
   *   tile holds one while the server waits, so a layer that waits must leave some for the others.
   * @param {RequestCache} cache `no-cache` to ask the server whether what the browser keeps is still so
   */
  constructor(slots, cache = "default") {
    super();
    this.#free = slots;
    this.cache = cache;
    this.scheme = `tiles-${++schemes}`;
    addProtocol(this.scheme, (request, abort) => this.#load(request.url, abort.signal));
  }

  /** Address under which MapLibre asks this loader. @param {string} template */
  address = (template) => `${this.scheme}://${template}`;

  /** Forget everything; the source must be gone from the map. */
  close() {
    removeProtocol(this.scheme);
    this.#records.clear();
  }

  /** Progress over the named tiles (`z/x/y`); those never asked for do not count. @param {string[]} keys */
  progress(keys) {
    /** @type {Progress} */
    const sum = { tiles: 0, unfinished: 0, blocks: 0, problem: null };
    for (const key of keys) {
      const record = this.#records.get(key);
      if (!record) continue;
      sum.tiles += 1;
      sum.unfinished += Number(record.state === "loading" || record.state === "pending");
      sum.blocks += record.pending;
      sum.problem ??= record.problem;
    }
    return sum;
  }

  /**
   * @param {string} address
   * @param {AbortSignal} signal
   */
  async #load(address, signal) {
    const url = address.slice(this.scheme.length + "://".length);
    const record = this.#record(url);
    try {
      await this.#slot(signal);
      try {
        const response = await ask(url, signal, { cache: this.cache });
        const data = await response.arrayBuffer();
        return this.#arrived(record, response, data);
      } finally {
        this.#release();
      }
    } catch (error) {
      if (signal.aborted) {
        if (record.state === "loading") this.#records.delete(record.key);
        throw error;
      }
      return this.#failed(record, error instanceof Problem ? error : new Problem(String(error)));
    } finally {
      this.dispatchEvent(new Event("progress"));
    }
  }

  /** @param {string} url @returns {TileRecord} */
  #record(url) {
    const [, key] = /\/(\d+\/\d+\/\d+)(?:\.\w+)?(?:\?|$)/.exec(url) ?? [null, url];
    let record = this.#records.get(key);
    if (!record) {
      record = { key, state: "loading", pending: 0, failures: 0, drawn: null, problem: null };
      this.#records.set(key, record);
      this.dispatchEvent(new Event("progress"));
    }
    return record;
  }

  /**
   * @param {TileRecord} record
   * @param {Response} response
   * @param {ArrayBuffer} data
   */
  #arrived(record, response, data) {
    const pending = Number.parseInt(response.headers.get("Landcover-Pending") ?? "0", 10) || 0;
    const maxAge = /max-age=(\d+)/.exec(response.headers.get("Cache-Control") ?? "");
    const ageS = maxAge ? Number(maxAge[1]) : null;
    record.state = pending ? "pending" : "done";
    record.pending = pending;
    record.failures = 0;
    record.problem = null;
    record.drawn = pending ? data : null;
    return { data, expires: after(pending ? ageS || PENDING_RETRY_S : Math.max(ageS ?? LONGEST_REFRESH_S, 60)) };
  }

  /**
   * A failure is shown as what is already known of the tile, and tried again unless it would only repeat.
   * @param {TileRecord} record
   * @param {Problem} problem
   */
  #failed(record, problem) {
    const step = FAILED_RETRY_S[Math.min(record.failures, FAILED_RETRY_S.length - 1)];
    record.state = "failed";
    record.pending = 0;
    record.failures += 1;
    record.problem = problem;
    const retryS = problem.passing ? Math.max(problem.retryAfterS ?? 0, step) : LONGEST_REFRESH_S;
    return { data: record.drawn, expires: after(retryS) };
  }

  /** @param {AbortSignal} signal */
  async #slot(signal) {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    await new Promise((resolve, reject) => {
      const turn = () => {
        signal.removeEventListener("abort", leave);
        resolve(undefined);
      };
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(turn), 1);
        reject(signal.reason);
      };
      this.#waiting.push(turn);
      signal.addEventListener("abort", leave, { once: true });
    });
  }

  #release() {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#free += 1;
  }
}

/** @param {number} seconds */
const after = (seconds) => new Date(Date.now() + seconds * 1000);
