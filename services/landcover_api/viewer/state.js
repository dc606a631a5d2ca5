/** What is shown, as the hash of the page's address: `#scene=town&model=…&opacity=70&at=16.2/25.1763/55.3021`. */

/**
 * @typedef {{zoom: number, lat: number, lng: number}} Position
 * @typedef {object} State
 * @property {string | null} scene
 * @property {string | null} model
 * @property {"class" | "confidence"} layer
 * @property {number} opacity percent
 * @property {number[]} hidden values of classes that are switched off
 * @property {Position | null} at
 */

/** @returns {State} */
export const initialState = () => ({ scene: null, model: null, layer: "class", opacity: 70, hidden: [], at: null });

/**
 * Read a hash; whatever makes no sense is left at its default, since people edit and truncate links.
 * @param {string} hash
 * @returns {State}
 */
export function parseHash(hash) {
  const query = new URLSearchParams(hash.replace(/^#/, ""));
  const state = initialState();
  state.scene = query.get("scene");
  state.model = query.get("model");
  if (query.get("layer") === "confidence") state.layer = "confidence";
  const opacity = Number.parseFloat(query.get("opacity") ?? "");
  if (opacity >= 0 && opacity <= 100) state.opacity = Math.round(opacity);
  state.hidden = (query.get("off") ?? "").split(",").filter(Boolean).map(Number).filter(Number.isInteger);
  const [zoom, lat, lng] = (query.get("at") ?? "").split("/").map(Number.parseFloat);
  if (zoom >= 0 && zoom <= 24 && Math.abs(lat) <= 85.06 && Math.abs(lng) <= 180) state.at = { zoom, lat, lng };
  return state;
}

/**
 * A position as the address keeps it: to a hundredth of a pixel, so that a link shows the same picture.
 * @param {Position} at
 * @returns {Position}
 */
export const rounded = ({ zoom, lat, lng }) => ({
  zoom: Number(zoom.toFixed(4)),
  lat: Number(lat.toFixed(6)),
  lng: Number(lng.toFixed(6)),
});

/** @param {State} state */
export function formatHash({ scene, model, layer, opacity, hidden, at }) {
  const parts = [];
  if (scene) parts.push(`scene=${encodeURIComponent(scene)}`);
  if (model) parts.push(`model=${encodeURIComponent(model)}`);
  parts.push(`layer=${layer}`, `opacity=${opacity}`);
  if (hidden.length) parts.push(`off=${hidden.join(",")}`);
  if (at) parts.push(`at=${at.zoom}/${at.lat}/${at.lng}`);
  return `#${parts.join("&")}`;
}
