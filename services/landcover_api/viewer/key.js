/** The API key of this page, if the service needs one: where it comes from, and how requests carry it. */

const NAME = "api_key";

/** Lasts as long as this tab; other tabs, and whoever gets a link to this page, have no part in it. */
const storage = (() => {
  try {
    return sessionStorage;
  } catch {
    return null; // a browser may forbid it; the key then lasts as long as the page
  }
})();
let key = storage?.getItem(NAME) ?? null;

/** @param {string} given as it was pasted */
export function keepKey(given) {
  key = given.replace(/[^!-~]/g, "") || null;
  if (key) storage?.setItem(NAME, key);
  else storage?.removeItem(NAME);
}

/** Options of `fetch`, with the key. @param {RequestInit} [options] @returns {RequestInit} */
export const withKey = (options) =>
  key ? { ...options, headers: { ...options?.headers, Authorization: `Bearer ${key}` } } : { ...options };

/** An address for what cannot send headers: links and EventSource. @param {string} url without a query */
export const addressWithKey = (url) => (key ? `${url}?${new URLSearchParams({ [NAME]: key })}` : url);

// A key in the page's own address is taken out of it, so that it is not passed on with a link.
const address = new URL(location.href);
const given = address.searchParams.get(NAME);
if (given !== null) {
  keepKey(given);
  address.searchParams.delete(NAME);
  history.replaceState(null, "", address);
}
