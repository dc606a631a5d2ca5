/** Geometry of GeoJSON polygons, as the map needs it. */

/** With rings that end where they begin: the server takes others, too, but their outline would have a gap. @param {any} geometry */
export function closed({ type, coordinates }) {
  const close = (/** @type {number[][][]} */ rings) => rings.map((ring) => [...ring, ring[0]]);
  return { type, coordinates: type === "Polygon" ? close(coordinates) : coordinates.map(close) };
}

/** @param {import("./api.js").MeasuredFeature[]} features @returns {[number, number, number, number]} */
export function boundsOf(features) {
  const rings = features.flatMap(({ geometry: { type, coordinates } }) => (type === "Polygon" ? coordinates : coordinates.flat()));
  const bounds = [Infinity, Infinity, -Infinity, -Infinity];
  for (const [x, y] of rings.flat()) {
    bounds[0] = Math.min(bounds[0], x);
    bounds[1] = Math.min(bounds[1], y);
    bounds[2] = Math.max(bounds[2], x);
    bounds[3] = Math.max(bounds[3], y);
  }
  return /** @type {any} */ (bounds);
}
