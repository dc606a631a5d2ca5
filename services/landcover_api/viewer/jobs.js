/** Following a job of the server until it has ended, and what is told of it meanwhile. */

import { BASE, fetchJob } from "./api.js";
import { addressWithKey } from "./key.js";

/** @typedef {import("./api.js").Job} Job */

const RETRY_MS = 2000;

/** @param {Job} job */
export const isOpen = ({ status }) => status === "accepted" || status === "running";

/** How far a job is, as a person reads it. @param {Job} job */
export function described({ message, eta_s }) {
  if (eta_s === null) return message;
  const minutes = eta_s / 60;
  const left = eta_s < 90 ? `${Math.ceil(eta_s)} s` : minutes < 90 ? `${Math.round(minutes)} min` : `${Math.round(minutes / 60)} h`;
  return `${message}, about ${left} to go`;
}

/**
 * Follow a job's events until it has ended; it outlasts the server and the connection.
 *
 * The browser reconnects by itself when a connection is lost, but gives up for good on an answer other than 200, as
 * a server gives that is starting, or has lost its broker. And a page that nobody sees listens to nothing: of the
 * six connections that a browser opens to a host (HTTP/1.1), all its tabs together, each listener holds one.
 * @param {string} id
 * @param {AbortSignal} signal
 * @param {(job: Job) => void} told called with each state, the last one too
 * @param {(sentence: string) => void} lost called while the server cannot be heard
 * @returns {Promise<Job>} as it ended. What the server refuses is thrown as a Problem.
 */
export async function follow(id, signal, told, lost) {
  for (;;) {
    const heard = await listen(id, signal, told, lost);
    if (heard) return heard;
    await (document.hidden ? sight(signal) : pause(RETRY_MS, signal));
    try {
      const job = await fetchJob(id, signal); // which has the reason, if there is one
      told(job);
      if (!isOpen(job)) return job;
    } catch (error) {
      if (signal.aborted || !error.passing) throw error;
      lost(error.message);
    }
  }
}

/**
 * @param {string} id
 * @param {AbortSignal} signal
 * @param {(job: Job) => void} told
 * @param {(sentence: string) => void} lost
 * @returns {Promise<Job | null>} the job when it has ended; null when nothing more will be heard
 */
function listen(id, signal, told, lost) {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const source = new EventSource(addressWithKey(`${BASE}jobs/${id}/events`));
    done.signal.addEventListener("abort", () => source.close());
    const stop = (/** @type {Job | null} */ job) => (done.abort(), resolve(job));
    source.addEventListener("status", ({ data }) => told(JSON.parse(data)));
    source.addEventListener("end", ({ data }) => {
      const job = JSON.parse(data);
      told(job);
      stop(job);
    });
    source.addEventListener("error", () => {
      lost("The server cannot be reached.");
      if (source.readyState === EventSource.CLOSED) stop(null);
    });
    document.addEventListener("visibilitychange", () => document.hidden && stop(null), { signal: done.signal });
    signal.addEventListener("abort", () => (done.abort(), reject(signal.reason)), { signal: done.signal });
    if (signal.aborted) reject(signal.reason), done.abort();
    else if (document.hidden) stop(null);
  });
}

/** @param {number} ms @param {AbortSignal} signal */
export const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

/** Wait until the page is seen again. @param {AbortSignal} signal */
const sight = (signal) =>
  new Promise((resolve, reject) => {
    document.addEventListener("visibilitychange", resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
