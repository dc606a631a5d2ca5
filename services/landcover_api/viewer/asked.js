/** What this browser asked of map jobs, kept over reloads, to ask it again or to outline it. */

/** @typedef {import("./api.js").MapRequest} MapRequest */

const KEY = "landcover-map-jobs";

/** Used where the browser keeps nothing for pages. @type {Record<string, MapRequest>} */
let fallback = {};

/** @returns {Record<string, MapRequest>} by id of the job */
export function asked() {
  try {
    return JSON.parse(localStorage.getItem(KEY) ?? "{}") ?? {};
  } catch {
    return fallback;
  }
}

/** @param {string} id @param {MapRequest} request */
export const remember = (id, request) => keep({ ...asked(), [id]: request });

/** Forget jobs that the server has forgotten. @param {string[]} ids of those that it knows */
export const forgetOthers = (ids) =>
  keep(Object.fromEntries(Object.entries(asked()).filter(([id]) => ids.includes(id))));

/** @param {Record<string, MapRequest>} requests */
function keep(requests) {
  fallback = requests;
  try {
    localStorage.setItem(KEY, JSON.stringify(requests));
  } catch (error) {
    console.info("What is asked of map jobs is kept until this page is closed only:", error);
  }
}
