/** A layer of tiles on the map: its source, its loader, and how far it is. */

import { TileLoader } from "./tiles.js";

/** A layer of tiles on the map, and what became of asking for it. */
export class TileLayer {
  /** @type {TileLoader | null} */
  loader = null;
  /** @type {string | null} */
  problem = null;
  /** @type {import("./api.js").TileJson | null} */
  tileJson = null;
  #abort = new AbortController();
  #generation = 0;

  /**
   * @param {import("./vendor/maplibre-gl/maplibre-gl.mjs").Map} map
   * @param {Promise<unknown>} ready when the map takes sources and layers
   * @param {object} options
   * @param {"imagery" | "landcover"} options.id of the source and of the layer
   * @param {number} options.tileSize
   * @param {number} options.slots requests at once
   * @param {string[]} options.below the layers it lies under, as far as they are on the map, lowest first
   * @param {Record<string, unknown>} options.paint
   * @param {() => void} options.changed called when tiles or problems change
   */
  constructor(map, ready, options) {
    this.map = map;
    this.ready = ready;
    this.options = options;
    this.source = "";
  }

  /**
   * Show other tiles, or none. The source is replaced: MapLibre's `setTiles` leaves requests of the old address
   * running, and one that waited long would be drawn over the new.
   * @param {((signal: AbortSignal) => Promise<import("./api.js").TileJson>) | null} fetchTileJson
   * @param {boolean} [anew] whether what the browser keeps of the tiles may be out of date
   */
  async replace(fetchTileJson, anew = false) {
    this.#abort.abort();
    const abort = (this.#abort = new AbortController());
    this.#remove();
    this.problem = null;
    try {
      if (fetchTileJson) {
        const [tileJson] = await Promise.all([fetchTileJson(abort.signal), this.ready]);
        abort.signal.throwIfAborted();
        this.#add(tileJson, anew);
      }
    } catch (error) {
      if (abort.signal.aborted) return;
      this.problem = error.message;
    }
    this.options.changed();
  }

  /** @param {import("./api.js").TileJson} tileJson @param {boolean} anew */
  #add(tileJson, anew) {
    const { id, tileSize, slots, below, paint, changed } = this.options;
    const before = below.find((layer) => this.map.getLayer(layer));
    this.loader = new TileLoader(slots, anew ? "no-cache" : "default");
    this.loader.addEventListener("progress", changed);
    this.source = `${id}-${++this.#generation}`;
    this.tileJson = tileJson;
    this.map.addSource(this.source, {
      type: "raster",
      tiles: tileJson.tiles.map(this.loader.address),
      tileSize,
      minzoom: tileJson.minzoom,
      maxzoom: tileJson.maxzoom,
      bounds: tileJson.bounds,
      attribution: tileJson.attribution ?? "",
    });
    this.map.addLayer({ id, type: "raster", source: this.source, paint }, before);
  }

  #remove() {
    if (!this.loader) return;
    this.map.removeLayer(this.options.id);
    this.map.removeSource(this.source);
    this.loader.close();
    this.loader = null;
  }

  /** @param {string} name @param {unknown} value */
  setPaint(name, value) {
    this.options.paint[name] = value;
    if (this.loader) this.map.setPaintProperty(this.options.id, name, value);
  }

  /** Progress over the tiles in view. @returns {import("./tiles.js").Progress} */
  progress() {
    if (!this.loader || !this.tileJson) return { tiles: 0, unfinished: 0, blocks: 0, problem: null };
    const { minzoom, maxzoom } = this.tileJson;
    const covering = this.map.coveringTiles({
      tileSize: this.options.tileSize,
      minzoom,
      maxzoom,
      roundZoom: true,
    });
    return this.loader.progress(covering.map(({ canonical: { z, x, y } }) => `${z}/${x}/${y}`));
  }

  /** The sentence to show, if something is wrong. */
  get trouble() {
    return this.problem ?? this.progress().problem?.message ?? null;
  }
}
