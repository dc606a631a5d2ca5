/** Drawing a polygon on the map, corner by corner: with a mouse, a finger or the keyboard. */

/** @param {string} id @returns {any} */
const element = (id) => document.getElementById(id);

/** @typedef {[number, number]} Position longitude, latitude */
/** @typedef {{type: "Feature", properties: {}, geometry: {type: "Polygon", coordinates: Position[][]}}} Drawn */

const CLOSE_PX = 12;
const FEWEST_CORNERS = 3;
const DOUBLE_CLICK_MS = 600;
const NOTHING = { type: "FeatureCollection", features: [] };

/** @param {string} type @param {unknown} coordinates @param {object} [properties] */
const feature = (type, coordinates, properties = {}) => ({ type: "Feature", properties, geometry: { type, coordinates } });

export class Sketch {
  /** @type {Position[]} */
  #corners = [];
  #drawing = false;
  #zoomTimer = 0;

  /**
   * @param {import("./vendor/maplibre-gl/maplibre-gl.mjs").Map} map
   * @param {Promise<unknown>} ready when the map takes sources and layers
   * @param {{done: (polygon: Drawn) => void, ended: () => void}} heard `done` with a polygon, `ended` in any case
   */
  constructor(map, ready, heard) {
    this.map = map;
    this.heard = heard;
    this.ready = ready.then(() => {
      map.addSource("sketch", { type: "geojson", data: NOTHING });
      const only = (/** @type {string} */ type) => ["==", ["geometry-type"], type];
      const layer = (/** @type {string} */ id, /** @type {string} */ type, /** @type {object} */ rest) =>
        map.addLayer({ id, type, source: "sketch", ...rest });
      layer("sketch-casing", "line", { paint: { "line-color": "#fff", "line-width": 5 } });
      layer("sketch-line", "line", { paint: { "line-color": "#1f2623", "line-width": 2 } });
      layer("sketch-corners", "circle", {
        filter: only("Point"),
        paint: {
          "circle-radius": ["case", ["get", "closes"], 7, 4.5],
          "circle-color": "#fff",
          "circle-stroke-color": "#1f2623",
          "circle-stroke-width": 2,
        },
      });
    });
    map.on("click", (event) => this.#click(event.lngLat));
    map.on("mousemove", (event) => this.#show(event.lngLat));
    map.on("move", () => this.#fromKeyboard() && this.#show(map.getCenter()));
    document.addEventListener("keydown", (event) => this.#key(event));
    element("sketch-undo").addEventListener("click", () => this.#undo());
    element("sketch-finish").addEventListener("click", () => this.#finish());
    element("sketch-cancel").addEventListener("click", () => this.cancel());
  }

  /** Begin anew. */
  begin() {
    this.#corners = [];
    this.#set(true);
    this.map.getCanvas().focus();
  }

  cancel() {
    if (!this.#drawing) return;
    this.#set(false);
    this.heard.ended();
  }

  /** @param {boolean} drawing */
  #set(drawing) {
    this.#drawing = drawing;
    if (!drawing) this.#corners = [];
    clearTimeout(this.#zoomTimer);
    if (drawing) this.map.doubleClickZoom.disable();
    // Later, since a double-click that ends the drawing must not zoom.
    else this.#zoomTimer = setTimeout(() => this.map.doubleClickZoom.enable(), DOUBLE_CLICK_MS);
    this.map.getCanvas().style.cursor = drawing ? "crosshair" : "";
    element("sketch").hidden = !drawing;
    this.#show();
  }

  #fromKeyboard() {
    return this.map.getCanvas().matches(":focus-visible");
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (!this.#drawing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") this.cancel();
    else if (event.target !== this.map.getCanvas()) return;
    else if (event.key === "Backspace" || event.key === "Delete") this.#undo();
    else if (event.key === " ") this.#click(this.map.getCenter());
    else if (event.key === "Enter") this.#finish();
    else return;
    event.preventDefault();
  }

  /** A corner, or the end: at the first corner, and at the last one, where the second click of a double-click falls. */
  #click(/** @type {{lng: number, lat: number}} */ place) {
    if (!this.#drawing) return;
    const enough = this.#corners.length >= FEWEST_CORNERS;
    if (enough && this.#near(this.#corners[0], place)) return this.#finish();
    if (this.#corners.length && this.#near(this.#corners[this.#corners.length - 1], place)) return this.#finish();
    this.#corners.push([place.lng, place.lat]);
    this.#show(place);
  }

  /** @param {Position} corner @param {{lng: number, lat: number}} place */
  #near(corner, place) {
    const [one, other] = [this.map.project(corner), this.map.project(place)];
    return Math.hypot(one.x - other.x, one.y - other.y) < CLOSE_PX;
  }

  #undo() {
    this.#corners.pop();
    this.#show();
  }

  #finish() {
    if (this.#corners.length < FEWEST_CORNERS) return;
    const ring = [...this.#corners, this.#corners[0]].map(([lng, lat]) => [rounded(lng), rounded(lat)]);
    this.#set(false);
    this.heard.done(/** @type {Drawn} */ (feature("Polygon", [ring])));
    this.heard.ended();
  }

  /** Draw what there is, with a line to where the next corner would be. @param {{lng: number, lat: number}} [next] */
  async #show(next) {
    if (next && !this.#drawing) return;
    const corners = this.#corners;
    const missing = FEWEST_CORNERS - corners.length;
    element("sketch-undo").disabled = !corners.length;
    element("sketch-finish").disabled = missing > 0;
    const line = next ? [...corners, [next.lng, next.lat]] : [...corners];
    if (line.length > 2) line.push(corners[0]);
    const lines = line.length > 1 ? [feature("LineString", line)] : [];
    const points = corners.map((corner, i) => feature("Point", corner, { closes: i === 0 && missing <= 0 }));
    await this.ready;
    this.map.getSource("sketch").setData({ type: "FeatureCollection", features: [...lines, ...points] });
  }
}

/** To a centimetre, which is finer than anyone draws. @param {number} degrees */
const rounded = (degrees) => Number(degrees.toFixed(7));
