/** What came of a map job as a person reads it: its files, the blocks that are missing, its edge on the map. */

import { sizeText, withText } from "./figures.js";

const SHOWN_FAILURES = 5;

/** By role, in the order in which they are listed. @type {Record<string, string>} */
const NAMES = {
  classes: "Classes",
  confidence: "Confidence",
  vectors: "Polygons",
  pmtiles: "Web map",
  names: "Names of classes",
  item: "STAC Item",
};

/** @param {import("./api.js").ProductFile[]} files */
export function fileEntries(files) {
  const roles = Object.keys(NAMES);
  return [...files].sort((a, b) => roles.indexOf(a.role) - roles.indexOf(b.role)).map(fileEntry);
}

/** @param {import("./api.js").ProductFile} file */
function fileEntry({ name, href, role, size_bytes }) {
  const entry = document.createElement("li");
  const title = withText("a", "name", NAMES[role] ?? role);
  title.title = name;
  const size = withText("span", "figure", `.${name.split(".").pop()}, ${sizeText(size_bytes)}`);
  entry.append(title, size);
  if (/^https?:/.test(href)) Object.assign(title, { href, download: name });
  else entry.append(withText("span", "note", href)); // a bucket that browsers cannot open
  return entry;
}

/**
 * The first of the blocks that cannot be had, and how many more there are.
 * @param {{row: number, col: number, reason: string}[]} failures
 * @param {number} count
 */
export function failureEntries(failures, count) {
  const shown = failures.slice(0, SHOWN_FAILURES);
  const entries = shown.map(({ row, col, reason }) => withText("li", "", `Row ${row}, column ${col}: ${reason}`));
  const more = count - shown.length;
  return more > 0 && shown.length ? [...entries, withText("li", "", `… and ${more} more.`)] : entries;
}

/** @param {number} missing @param {number} total */
export const missingText = (missing, total) =>
  `Done, with holes: ${missing} of ${total} blocks ${missing === 1 ? "is" : "are"} missing.`;

/** @param {[number, number, number, number]} [bbox] west, south, east, north; across the antimeridian west is the greater */
export function outlineOf(bbox) {
  if (!bbox) return { type: "FeatureCollection", features: [] };
  const [west, south, greatest, north] = bbox;
  const east = greatest < west ? greatest + 360 : greatest;
  const coordinates = [[west, south], [east, south], [east, north], [west, north], [west, south]];
  return { type: "Feature", properties: {}, geometry: { type: "LineString", coordinates } };
}
