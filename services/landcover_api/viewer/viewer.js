/** The map page: puts the state of the address, the panel, the layers and the messages together. */

import {
  AttributionControl,
  LngLat,
  Map as MapLibre,
  NavigationControl,
  ScaleControl,
  setMaxParallelImageRequests,
} from "./vendor/maplibre-gl/maplibre-gl.mjs";
import { Area } from "./area.js";
import { addresses, fetchImagery, fetchLandcover, fetchModels, fetchScenes } from "./api.js";
import { Busy, showProblem } from "./notices.js";
import { Panel } from "./panel.js";
import { Readout } from "./readout.js";
import { Review } from "./review.js";
import { formatHash, parseHash, rounded } from "./state.js";
import { TileLoader } from "./tiles.js";

/** Small tiles: each needs few blocks, so a cold map fills in piece by piece. */
const LANDCOVER_TILE_PX = 256;
const IMAGERY_TILE_PX = 512;
/** How long the server may hold an unfinished tile. Short, since a tile is drawn with what is known by then. */
const WAIT_S = 3;
/** Of the six connections a browser opens, those for land cover; imagery and the read-out have the rest. */
const LANDCOVER_SLOTS = 4;
const SERVER_RETRY_MS = 3000;
const MARGIN_PX = 24;

/** A layer of tiles on the map, and what became of asking for it. */
class TileLayer {
  /** @type {TileLoader | null} */
  loader = null;
  /** @type {string | null} */
  problem = null;
  #abort = new AbortController();
  #generation = 0;

  /**
   * @param {MapLibre} map
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
   */
  async replace(fetchTileJson) {
    this.#abort.abort();
    const abort = (this.#abort = new AbortController());
    this.#remove();
    this.problem = null;
    try {
      if (fetchTileJson) {
        const [tileJson] = await Promise.all([fetchTileJson(abort.signal), this.ready]);
        abort.signal.throwIfAborted();
        this.#add(tileJson);
      }
    } catch (error) {
      if (abort.signal.aborted) return;
      this.problem = error.message;
    }
    this.options.changed();
  }

  /** @param {import("./api.js").TileJson} tileJson */
  #add(tileJson) {
    const { id, tileSize, slots, below, paint, changed } = this.options;
    const before = below.find((layer) => this.map.getLayer(layer));
    this.loader = new TileLoader(slots);
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

/** @param {import("./api.js").Scene[]} scenes @param {{default: string, models: import("./api.js").Model[]}} catalogue */
function start(scenes, catalogue) {
  let state = parseHash(location.hash);
  const scene = () => scenes.find(({ id }) => id === state.scene);
  const model = () => catalogue.models.find(({ name }) => name === state.model);
  let unknown = settle();

  const map = new MapLibre({
    container: "map",
    style: {
      version: 8,
      sources: { outline: { type: "geojson", data: outlineOf(scene()) } },
      layers: [
        { id: "background", type: "background", paint: { "background-color": "#e9ecea" } },
        { id: "outline", type: "line", source: "outline", paint: { "line-color": "#5f6b66", "line-width": 1 } },
      ],
    },
    center: state.at ?? [0, 0],
    zoom: state.at?.zoom ?? 0,
    maxZoom: 22,
    maxPitch: 0,
    dragRotate: false,
    pitchWithRotate: false,
    attributionControl: false,
    locale: { "Map.Title": "Map of land cover. Arrow keys move it, plus and minus zoom." },
  });
  const ready = map.once("style.load");
  map.touchZoomRotate.disableRotation();
  map.keyboard.disableRotation();
  map.addControl(new NavigationControl({ showCompass: false }), "top-right");
  map.addControl(new AttributionControl({ compact: true }), "bottom-right");
  map.addControl(new ScaleControl({ maxWidth: 120 }), "bottom-right");
  map.on("error", ({ error }) => console.error(error));

  const busy = new Busy(() => landcover.progress());
  const changed = () => {
    const { tiles, unfinished, problem } = landcover.progress();
    document.documentElement.dataset.landcover = tiles && !unfinished && !problem ? "drawn" : "unfinished";
    busy.update();
    showProblem(troubles());
  };
  const imagery = new TileLayer(map, ready, {
    id: "imagery",
    tileSize: IMAGERY_TILE_PX,
    slots: Number.POSITIVE_INFINITY,
    below: ["landcover", "outline"],
    paint: { "raster-fade-duration": 150 },
    changed,
  });
  const landcover = new TileLayer(map, ready, {
    id: "landcover",
    tileSize: LANDCOVER_TILE_PX,
    slots: LANDCOVER_SLOTS,
    below: ["outline"],
    paint: { "raster-resampling": "nearest", "raster-fade-duration": 0, "raster-opacity": state.opacity / 100 },
    changed,
  });

  const panel = new Panel({
    scene: (id) => change({ scene: id, at: null }),
    model: (name) => change({ model: name, hidden: [] }),
    layer: (layer) => change({ layer }),
    opacity: (opacity) => change({ opacity }),
    hidden: (hidden) => change({ hidden }),
    zoomToScene: () => fit(true),
  });
  panel.offer(scenes, catalogue.models);
  const readout = new Readout(map, () => {
    const shown = scene();
    return shown?.bounds && state.model ? { scene: shown, model: state.model } : null;
  });

  /** @param {[number, number, number, number]} bounds */
  const flyTo = (bounds) => {
    const { left, bottom } = panel.cover;
    const padding = { top: 3 * MARGIN_PX, right: 3 * MARGIN_PX, left: left + 3 * MARGIN_PX, bottom: bottom + 3 * MARGIN_PX };
    map.fitBounds(bounds, { padding, duration: 800 });
  };
  const review = new Review(map, ready, flyTo);
  const area = new Area(map, ready, { flyTo, showPanel: (visible) => panel.makeVisible(visible) });

  /** Choose what the address leaves open or names wrongly; a sentence about the latter. */
  function settle() {
    const wrong = [];
    if (!scene()) {
      if (state.scene) wrong.push(`There is no scene '${state.scene}' here.`);
      Object.assign(state, { scene: (scenes.find(({ error }) => !error) ?? scenes[0])?.id ?? null });
      if (wrong.length) state.at = null;
    }
    if (!model()) {
      if (state.model) wrong.push(`There is no model '${state.model}' here.`);
      state.model = catalogue.default ?? catalogue.models[0]?.name ?? null;
    }
    return wrong.join(" ");
  }

  function troubles() {
    if (!scenes.length) return "There is no scene to show: start the server with one, for example with --scenes image.tif.";
    if (!catalogue.models.length) return "There is no model to map with: start the server with one, with --models.";
    const unreadable = scene()?.bounds ? null : scene()?.error;
    return unreadable ?? landcover.trouble ?? imagery.trouble ?? unknown;
  }

  /** @returns {import("./api.js").View | null} */
  function view() {
    const classes = model()?.classes.map(({ value }) => value).filter((value) => !state.hidden.includes(value));
    if (!state.scene || !state.model || !classes) return null;
    const all = classes.length === model()?.classes.length;
    return { scene: state.scene, model: state.model, layer: state.layer, classes: all ? null : classes };
  }

  function showImagery() {
    const shown = scene();
    const options = { tilesize: String(IMAGERY_TILE_PX) };
    return imagery.replace(shown?.bounds ? (signal) => fetchImagery(shown, options, signal) : null);
  }

  function showLandcover() {
    const shown = view();
    const options = { tilesize: String(LANDCOVER_TILE_PX), wait: String(WAIT_S) };
    const nothing = !shown || !scene()?.bounds || shown.classes?.length === 0;
    return landcover.replace(nothing ? null : (signal) => fetchLandcover(shown, options, signal));
  }

  /** Bring the whole scene into view, though not further out than its tiles go. @param {boolean} animate */
  function fit(animate) {
    const shown = scene();
    if (!shown?.bounds) return;
    const { left, bottom } = panel.cover;
    const padding = { top: MARGIN_PX, right: MARGIN_PX, left: left + MARGIN_PX, bottom: bottom + MARGIN_PX };
    const camera = map.cameraForBounds(shown.bounds, { padding });
    if (!camera) return;
    // MapLibre counts zooms of 512 px tiles, tile matrix sets of 256 px ones.
    const { zoom, ...center } = rounded({
      ...LngLat.convert(camera.center),
      zoom: Math.max(camera.zoom, (shown.minzoom ?? 0) - 1),
    });
    map.easeTo({ center, zoom, duration: animate ? 500 : 0 });
  }

  function showControls() {
    panel.show(state, scene(), model());
    const shown = view();
    panel.showAddresses(shown && addresses(shown));
    const subject = shown && scene()?.bounds ? { scene: shown.scene, model: shown.model } : null;
    review.show(subject);
    area.show(subject);
    document.title = state.scene ? `${scene()?.title ?? state.scene} · Land cover` : "Land cover";
  }

  function remember() {
    const { lat, lng } = map.getCenter();
    state.at = rounded({ zoom: map.getZoom(), lat, lng });
    history.replaceState(null, "", formatHash(state));
  }

  /** The one way in which the state changes after the start. @param {Partial<import("./state.js").State>} part */
  function change(part) {
    const before = { ...state };
    const tilesBefore = JSON.stringify(view());
    Object.assign(state, part);
    unknown = settle();
    showControls();
    if (state.opacity !== before.opacity) landcover.setPaint("raster-opacity", state.opacity / 100);
    if (state.scene !== before.scene) {
      readout.hide();
      ready.then(() => map.getSource("outline").setData(outlineOf(scene())));
      showImagery();
    }
    if (JSON.stringify(view()) !== tilesBefore) showLandcover();
    if (!state.at) fit(false);
    remember();
    changed();
  }

  addEventListener("hashchange", () => {
    const wanted = parseHash(location.hash);
    if (wanted.at) map.jumpTo({ center: wanted.at, zoom: wanted.at.zoom });
    change(wanted);
  });
  map.on("moveend", remember);
  map.on("idle", changed);
  map.on("move", () => busy.update());
  showControls();
  if (!state.at) fit(false);
  remember();
  showImagery();
  showLandcover();
  changed();
}

/** The edge of a scene, so that it can be found even where no tile is drawn. @param {import("./api.js").Scene | undefined} scene */
function outlineOf(scene) {
  if (!scene?.bounds) return { type: "FeatureCollection", features: [] };
  const [west, south, east, north] = scene.bounds;
  const ring = [[west, south], [east, south], [east, north], [west, north], [west, south]];
  return { type: "Feature", properties: {}, geometry: { type: "LineString", coordinates: ring } };
}

/** Ask for scenes and models until the server answers, then start. */
async function main() {
  setMaxParallelImageRequests(64); // the loaders have their own limits
  try {
    const [scenes, catalogue] = await Promise.all([fetchScenes(), fetchModels()]);
    showProblem(null);
    start(scenes, catalogue);
  } catch (error) {
    showProblem(error.message);
    console.warn(error);
    if (error.passing) setTimeout(main, SERVER_RETRY_MS);
  }
}

main();
