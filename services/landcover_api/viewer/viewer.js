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
import "./key_form.js";
import { TileLayer } from "./layer.js";
import { Busy, showProblem } from "./notices.js";
import { Panel } from "./panel.js";
import { Product } from "./product.js";
import { Readout } from "./readout.js";
import { Review } from "./review.js";
import { formatHash, parseHash, rounded } from "./state.js";

/** Small tiles: each needs few blocks, so a cold map fills in piece by piece. */
const LANDCOVER_TILE_PX = 256;
const IMAGERY_TILE_PX = 512;
/** How long the server may hold an unfinished tile. Short, since a tile is drawn with what is known by then. */
const WAIT_S = 3;
const LANDCOVER_OPTIONS = { tilesize: String(LANDCOVER_TILE_PX), wait: String(WAIT_S) };
/** Of the six connections a browser opens, those for land cover; imagery and the read-out have the rest. */
const LANDCOVER_SLOTS = 4;
const SERVER_RETRY_MS = 3000;
/** After this each process of the server knows of a product that was just made. */
const KNOWN_AFTER_MS = 6000;
const MARGIN_PX = 24;

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
  const product = new Product(map, ready, { extent, mapped: showMapped });

  /** What is in view beside the panel: west, south, east, north; null if that is once around the Earth. */
  function extent() {
    const { clientWidth: width, clientHeight: height } = map.getContainer();
    const [lowest, highest] = [map.unproject([panel.cover.left, height]), map.unproject([width, 0])];
    if (highest.lng - lowest.lng >= 360) return null;
    const { lng: west, lat: south } = lowest.wrap();
    const { lng: east, lat: north } = highest.wrap();
    return /** @type {[number, number, number, number]} */ ([west, south, east, north].map((each) => Number(each.toFixed(6))));
  }

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

  /** @param {boolean} [anew] whether what the browser keeps of the tiles may be out of date */
  function showLandcover(anew) {
    const shown = view();
    const nothing = !shown || !scene()?.bounds || shown.classes?.length === 0;
    return landcover.replace(nothing ? null : (signal) => fetchLandcover(shown, LANDCOVER_OPTIONS, signal), anew);
  }

  /** Show what a job has mapped: at once, and at further zooms as soon as the server has tiles there. */
  async function showMapped() {
    await showLandcover(true);
    const { tileJson } = landcover;
    await new Promise((resolve) => setTimeout(resolve, KNOWN_AFTER_MS));
    const shown = view();
    if (!landcover.loader || landcover.tileJson !== tileJson || !tileJson || !shown) return; // something else is shown
    const known = await fetchLandcover(shown, LANDCOVER_OPTIONS).catch(() => tileJson); // tiles will tell what is wrong
    if (known.minzoom !== tileJson.minzoom) showLandcover(true);
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
    product.show(subject);
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
    else addEventListener("keygiven", main, { once: true });
  }
}

main();
