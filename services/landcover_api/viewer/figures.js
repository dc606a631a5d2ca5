/** Figures of statistics as a person reads them: areas, shares, intervals, and a bar for each class. */

/** @typedef {import("./api.js").ClassFigures} ClassFigures */

const SQUARE_KILOMETRES_FROM_M2 = 1e7;
const HECTARES_FROM_M2 = 1e4;

/** @param {number} m2 @returns {{unit: string, size: number}} its name, and the square metres in one */
function unitOf(m2) {
  if (m2 >= SQUARE_KILOMETRES_FROM_M2) return { unit: "km²", size: 1e6 };
  return m2 >= HECTARES_FROM_M2 ? { unit: "ha", size: 1e4 } : { unit: "m²", size: 1 };
}

/** @param {number} value @param {number} decimals */
const fixed = (value, decimals) =>
  value.toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).replaceAll(",", "\u202f");

/** Decimals that show so many digits of a value, and all of those before the point. @param {number} value @param {number} digits */
const decimalsFor = (value, digits) =>
  value > 0 ? Math.min(3, Math.max(0, digits - 1 - Math.floor(Math.log10(value)))) : 0;

/** @param {number} m2 */
export function areaText(m2) {
  const { unit, size } = unitOf(m2);
  return `${fixed(m2 / size, decimalsFor(m2 / size, 3))} ${unit}`;
}

/** @param {number} bytes */
export function sizeText(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const step = bytes > 0 ? Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3)) : 0;
  const value = bytes / 1000 ** step;
  return `${fixed(value, step ? decimalsFor(value, 2) : 0)} ${units[step]}`;
}

/** @param {number} share */
export function shareText(share) {
  const percent = 100 * share;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  if (percent < 100 && percent > 99.9) return "> 99.9 %";
  return `${fixed(percent, percent < 10 || percent > 99 ? 1 : 0).replace(/\.0$/, "")} %`;
}

/** The error-adjusted area with its 95 % interval; nothing where there is none. @param {ClassFigures} figures */
export function adjustedText({ adjusted_area_m2: m2, adjusted_ci95_m2: interval }) {
  if (m2 === null || interval === null) return "";
  const { unit, size } = unitOf(m2);
  const half = (interval[1] - interval[0]) / 2;
  const decimals = decimalsFor(half / size, 2);
  const [value, low, high, margin] = [m2, ...interval, half].map((each) => fixed(each / size, decimals));
  const symmetric = Math.abs((interval[0] + interval[1]) / 2 - m2) <= half / 100;
  return symmetric ? `${value} ± ${margin} ${unit}` : `${value} ${unit} (${low} to ${high})`;
}

/** @param {import("./api.js").Statistics} statistics */
export function coverageText({ coverage, mapped_area_m2 }) {
  if (coverage === 1) return "all of it mapped";
  return mapped_area_m2 ? `${shareText(coverage)} of it mapped` : "nothing of it mapped";
}

/** What to call a feature. @param {import("./api.js").MeasuredFeature} feature @param {number} index */
export function titleOf({ id, properties: { statistics, ...rest } }, index) {
  const name = id ?? rest.name ?? rest.title ?? rest.id;
  const area = areaText(statistics.total_area_m2);
  return name === undefined || name === null ? `Polygon ${index + 1} (${area})` : `${index + 1}. ${name} (${area})`;
}

/**
 * A class as an entry of a list: its area and share, a bar, and the interval on it.
 * @param {ClassFigures} figures
 * @param {number} mostM2 what fills the whole width
 */
export function classEntry(figures, mostM2) {
  const { name, color, area_m2, share, mean_confidence, adjusted_ci95_m2: interval } = figures;
  const percent = (/** @type {number} */ m2) => `${(100 * m2) / mostM2}%`;
  const head = withText("div", "figures", "");
  head.append(withText("span", "name", name), withText("span", "size", areaText(area_m2)), withText("span", "share", shareText(share)));
  const bar = withText("div", "bar", "");
  const fill = withText("div", "fill", "");
  Object.assign(fill.style, { width: percent(area_m2), background: color });
  bar.append(fill);
  if (interval) {
    const range = withText("div", "interval", "");
    Object.assign(range.style, { left: percent(interval[0]), width: percent(interval[1] - interval[0]) });
    bar.append(range);
  }
  const entry = document.createElement("li");
  entry.title = `The model is ${Math.round(100 * mean_confidence)} % sure of this on average.`;
  entry.append(head, bar);
  if (interval) entry.append(withText("div", "adjusted", `adjusted ${adjustedText(figures)}`));
  return entry;
}

/** @param {string} tag @param {string} className @param {string} text */
export function withText(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}
