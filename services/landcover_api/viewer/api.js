/** What the page asks of the HTTP interface: documents and addresses. Nothing here touches the page or the map. */

/**
 * @typedef {{value: number, name: string, color: string}} LandCoverClass
 * @typedef {{id: string, title?: string, bounds?: [number, number, number, number], crs: string, gsd_m: number,
 *   minzoom: number | null, attribution?: string | null, error?: string | null}} Scene
 * A scene that cannot be read has no bounds; one with bounds and an error has imagery, but does not suit the
 * default model.
 * @typedef {{dataset: string, overall_accuracy: number, mean_iou: number}} Metrics
 * @typedef {{name: string, version: string, description?: string, license?: string, classes: LandCoverClass[],
 *   gsd: {min_m: number, max_m: number}, metrics?: Metrics | null}} Model
 * @typedef {{tiles: string[], minzoom: number, maxzoom: number, bounds: [number, number, number, number],
 *   attribution?: string | null}} TileJson
 * @typedef {{value: number, name: string | null, color: string | null, confidence: number | null,
 *   pending?: boolean}} PointAnswer
 */

import { addressWithKey, withKey } from "./key.js";

const TMS = "WebMercatorQuad";
const POINT_WAIT_S = 2;
const STATISTICS_WAIT_S = 4;

/** Where the API is: the folder of this page, so that it also works below a path of a proxy. */
export const BASE = new URL(".", document.baseURI).href;

/** An answer that is no success, with the server's own sentence. */
export class Problem extends Error {
  /**
   * @param {string} detail a sentence fit to show
   * @param {number} status HTTP status; 0 where there was no answer at all
   * @param {number | null} retryAfterS what the server asked for, in seconds
   */
  constructor(detail, status = 0, retryAfterS = null) {
    super(detail);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the same request may succeed later without anyone changing it. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/**
 * Fetch, and turn whatever is no success into a Problem. Aborting throws as `fetch` does. Where an API key is needed,
 * or another one, the window has an event `keyneeded`.
 * @param {string} url
 * @param {AbortSignal} [signal]
 * @param {RequestInit} [options]
 */
export async function ask(url, signal, options) {
  let response;
  try {
    response = await fetch(url, { ...withKey(options), signal });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem("The server cannot be reached.");
  }
  if (response.ok) return response;
  if (response.status === 401 || response.status === 403) dispatchEvent(new Event("keyneeded"));
  const body = await response.json().catch(() => null);
  const detail =
    typeof body?.detail === "string" ? body.detail : `The server answered ${response.status} ${response.statusText}.`;
  const retryAfter = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  throw new Problem(detail, response.status, Number.isFinite(retryAfter) ? retryAfter : null);
}

/** @param {string} url @param {AbortSignal} [signal] @returns {Promise<any>} */
const askJson = async (url, signal) => (await ask(url, signal)).json();

/** @returns {Promise<Scene[]>} */
export const fetchScenes = async () => (await askJson(`${BASE}scenes`)).scenes;

/** @returns {Promise<{default: string, models: Model[]}>} */
export const fetchModels = () => askJson(`${BASE}models`);

/**
 * What the land-cover layer shows.
 * @typedef {{scene: string, model: string, layer: "class" | "confidence", classes: number[] | null}} View
 * `classes`: the values shown, or null for all of them
 */

/** @param {View} view */
function viewQuery({ model, layer, classes }) {
  const query = new URLSearchParams({ model });
  if (layer !== "class") query.set("layer", layer);
  // Commas stay legible: they need no escape in a query.
  return query.toString() + (classes ? `&classes=${classes.join(",")}` : "");
}

/** @param {string} scene */
const landcover = (scene) => `${BASE}scenes/${encodeURIComponent(scene)}/landcover`;

/**
 * Addresses of a view for other programs.
 * @param {View} view
 */
export function addresses(view) {
  const query = viewQuery(view);
  return {
    xyz: `${landcover(view.scene)}/tiles/${TMS}/{z}/{x}/{y}.png?${query}`,
    tilejson: `${landcover(view.scene)}/${TMS}/tilejson.json?${query}`,
    wmts: `${landcover(view.scene)}/${TMS}/WMTSCapabilities.xml?${query}`,
  };
}

/**
 * TileJSON of a view, its tiles asked for on this origin and with `options` in their query.
 * @param {View} view
 * @param {Record<string, string>} options
 * @param {AbortSignal} [signal]
 * @returns {Promise<TileJson>}
 */
export async function fetchLandcover(view, options, signal) {
  return withOptions(await askJson(addresses(view).tilejson, signal), options);
}

/**
 * @param {Scene} scene
 * @param {Record<string, string>} options
 * @param {AbortSignal} signal
 * @returns {Promise<TileJson>}
 */
export async function fetchImagery({ id, attribution }, options, signal) {
  const url = `${BASE}scenes/${encodeURIComponent(id)}/imagery/${TMS}/tilejson.json`;
  const tileJson = await askJson(`${url}?${new URLSearchParams(options)}`, signal);
  return withOptions({ attribution, ...tileJson }, options);
}

/**
 * Behind a proxy the server may not know its own public name, and the page may ask no other origin: so only the
 * path and query of a tile address are taken.
 * @param {TileJson} tileJson
 * @param {Record<string, string>} options
 */
function withOptions(tileJson, options) {
  const tiles = tileJson.tiles.map((template) => {
    const [path, search = ""] = template.replace(/^https?:\/\/[^/]+/, location.origin).split("?");
    const query = new URLSearchParams(search);
    for (const [name, value] of Object.entries(options)) query.set(name, value);
    return `${path}?${query}`;
  });
  return { ...tileJson, tiles };
}

/**
 * @param {string} scene
 * @param {string} model
 * @param {{lng: number, lat: number}} place
 * @param {AbortSignal} signal
 * @returns {Promise<PointAnswer>}
 */
export function fetchPoint(scene, model, { lng, lat }, signal) {
  const query = new URLSearchParams({ model, wait: String(POINT_WAIT_S) });
  return askJson(`${landcover(scene)}/point/${lng.toFixed(7)},${lat.toFixed(7)}?${query}`, signal);
}

/**
 * @typedef {{bbox: [number, number, number, number],
 *   properties: {rank: number, doubt: number, dominant_class: string | null}}} RankedWindow
 */

/**
 * The windows to look at first, of what is mapped so far.
 * @param {string} scene
 * @param {string} model
 * @param {AbortSignal} signal
 * @returns {Promise<{features: RankedWindow[], note: string | null}>}
 */
export const fetchReview = (scene, model, signal) =>
  askJson(`${landcover(scene)}/review?${new URLSearchParams({ model })}`, signal);

/**
 * @typedef {{value: number, name: string, color: string, area_m2: number, share: number, mean_confidence: number,
 *   adjusted_area_m2: number | null, adjusted_ci95_m2: [number, number] | null}} ClassFigures
 * @typedef {{total_area_m2: number, mapped_area_m2: number, coverage: number, classes: ClassFigures[],
 *   notes?: string[]}} Statistics
 * @typedef {{id?: string | number, geometry: any, properties: {statistics: Statistics} & Record<string, any>}} MeasuredFeature
 * @typedef {{id: string, type: "map" | "statistics", title: string, scene: string, model: string,
 *   status: "accepted" | "running" | "successful" | "failed" | "dismissed", progress: number, message: string,
 *   eta_s: number | null, blocks: {total: number, done: number, failed: number},
 *   failures: {row: number, col: number, reason: string}[]}} Job
 * `failures`: the first of the blocks that cannot be had
 */

/**
 * Ask for the statistics of polygons.
 * @param {string} scene
 * @param {string} model
 * @param {string} body GeoJSON
 * @param {AbortSignal} signal
 * @param {string} [accept]
 * @returns {Promise<{text: string, job: Job | null}>} the answer, or the job that makes it when that takes long
 */
export async function fetchStatistics(scene, model, body, signal, accept = "application/geo+json") {
  const url = `${landcover(scene)}/statistics?${new URLSearchParams({ model, wait: String(STATISTICS_WAIT_S) })}`;
  const headers = { "Content-Type": "application/geo+json", Accept: accept };
  const response = await ask(url, signal, { method: "POST", body, headers });
  const text = await response.text();
  return { text, job: response.status === 202 ? JSON.parse(text) : null };
}

/** @param {string} id @param {AbortSignal} signal @returns {Promise<Job>} */
export const fetchJob = (id, signal) => askJson(`${BASE}jobs/${id}`, signal);

/** What came out of a job; its error is a Problem. @param {string} id @param {AbortSignal} signal @param {string} [accept] */
export const fetchJobResult = async (id, signal, accept = "application/geo+json") =>
  (await ask(`${BASE}jobs/${id}/results`, signal, { headers: { Accept: accept } })).text();

/** Jobs that wait, run, or ended lately; the newest first. @param {AbortSignal} signal @returns {Promise<Job[]>} */
export const fetchJobs = async (signal) => (await askJson(`${BASE}jobs?limit=1000`, signal)).jobs;

/**
 * What is asked of a map job.
 * @typedef {{type: "map", scene: string, model: string, bbox?: [number, number, number, number],
 *   confidence: "file", vectors: "none" | "flatgeobuf" | "geoparquet", pmtiles: boolean,
 *   allow_missing: boolean}} MapRequest
 * `bbox`: west, south, east, north; across the antimeridian west is the greater. Without it: the whole scene
 */

/** Have a map made; who asks the same again gets the same job. @param {MapRequest} request @returns {Promise<Job>} */
export async function submitMap(request) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(`${BASE}jobs`, undefined, { method: "POST", body: JSON.stringify(request), headers })).json();
}

/**
 * @typedef {{name: string, href: string, role: string, size_bytes: number}} ProductFile
 * @typedef {{files: ProductFile[], holes: {row: number, col: number, reason: string}[]}} Product
 */

/**
 * What a map job made. Files that the server gives out have the address that this page knows it by.
 * @param {string} id
 * @param {AbortSignal} signal
 * @returns {Promise<Product>}
 */
export async function fetchProduct(id, signal) {
  const product = await askJson(`${BASE}jobs/${id}/results`, signal);
  for (const file of product.files) {
    if (/^https?:/.test(file.href)) file.href = addressWithKey(`${BASE}jobs/${id}/results/${encodeURIComponent(file.name)}`);
  }
  return product;
}

/** @param {string} id */
export const dismissJob = (id) => ask(`${BASE}jobs/${id}`, undefined, { method: "DELETE" });

/** Why nothing is mapped, as far as the server knows: a sentence, or null. */
export async function fetchTrouble() {
  const document = await fetch(`${BASE}readyz`).then((response) => response.json()).catch(() => null);
  if (!document) return "The server cannot be reached.";
  for (const part of ["cache", "broker"]) {
    if (document[part] && document[part] !== "ok") return `The server's ${part} is ${document[part]}.`;
  }
  return document.workers?.length === 0 ? "No worker is running to map this." : null;
}
