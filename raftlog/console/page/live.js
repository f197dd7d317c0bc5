// Keeps the store true: one stream of events, and a few questions while the page is seen.
import { get, query } from "./api.js";
import { change, STALE_MS, store, takeEvents } from "./store.js";

const SUMMARY_MS = 2000;
const HISTORY_S = 600;
const RETRY_MS = 1000;
/** A stream that is silent for so long is opened anew: who held its other end may be gone without a word. */
const SILENT_MS = 10_000;

let source = null;
let followedAt = 0;
let askSoon = 0;

export async function start() {
  await identify();
  document.addEventListener("visibilitychange", seen);
  if (!document.hidden) follow();
  repeat(summary, SUMMARY_MS);
  repeat(history, SUMMARY_MS);
  repeat(dev, 1000);
  setInterval(watch, 1000);
}

/** A browser has six connections to one host, for all tabs: one that nobody sees holds none. */
function seen() {
  if (document.hidden) {
    source?.close();
    source = null;
    lost();
  } else {
    follow();
    summary();
    history();
  }
}

/** What is silent is not live, though its connection stands. */
function watch() {
  if (document.hidden) return;
  const silentMs = Date.now() - Math.max(store.heardAt, followedAt);
  if (store.link === "live" && silentMs >= STALE_MS) lost();
  if (silentMs >= SILENT_MS) follow();
  change();
}

async function identify() {
  for (;;) {
    try {
      const about = await get("about");
      change(() => { store.about = about; store.refused = null; });
      return;
    } catch (error) {
      change(() => { store.refused = error; });
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
}

function repeat(task, ms) {
  const run = async () => {
    if (!document.hidden) await task();
    setTimeout(run, ms);
  };
  run();
}

/** The browser connects again by itself, and says what it was told last; unless it was refused. There is one
 * stream at a time. It is live when figures come: `raftlog console` says hello beside a cluster that is silent. */
function follow() {
  source?.close();
  const own = source = new EventSource("api/v1/events");
  followedAt = Date.now();
  own.addEventListener("hello", (message) => change(() => { store.cluster = JSON.parse(message.data); }));
  own.addEventListener("rates", () => heard());
  own.addEventListener("raft", (message) => {
    heard(() => takeEvents(JSON.parse(message.data)));
    clearTimeout(askSoon);
    askSoon = setTimeout(summary, 150);
  });
  own.addEventListener("bye", lost);
  own.addEventListener("error", () => {
    lost();
    if (own.readyState === EventSource.CLOSED) setTimeout(() => { if (own === source) follow(); }, RETRY_MS);
  });
}

function heard(mutate) {
  change(() => {
    if (store.link === "reconnecting") identify(); // it may be another now, or ask for a token
    store.link = "live";
    store.heardAt = Date.now();
    mutate?.();
  });
}

function lost() {
  change(() => { store.link = "reconnecting"; });
}

async function summary() {
  try {
    const cluster = await get("cluster");
    change(() => { store.cluster = cluster; });
  } catch (error) {
    if (error.code !== "UNREACHABLE" && store.cluster) change(() => { store.cluster = { ...store.cluster, problems: [error.message] }; });
  }
}

async function dev() {
  if (store.about?.mode !== "dev") return;
  try {
    const found = await get("dev");
    change(() => { store.dev = found; });
  } catch { /* the next answer has it */ }
}

async function history() {
  const known = store.history;
  const since = known?.at.length ? known.at[known.at.length - 1] - 2000 : Date.now() - 1000 * HISTORY_S;
  try {
    const fresh = await get(`metrics/history${query({ since })}`);
    change(() => { store.history = join(known, fresh); store.historyError = null; });
  } catch (error) {
    if (error.code !== "UNREACHABLE") change(() => { store.historyError = error; });
  }
}

/** The newest seconds are asked for again: not all brokers had told them. The very last is left out while it is
 * not over. */
export function join(known, fresh) {
  if (!known) return fresh;
  const first = fresh.at.length ? fresh.at[0] : Infinity;
  const keep = known.at.filter((at) => at < first).slice(-HISTORY_S).length;
  const from = known.at.filter((at) => at < first).length - keep;
  const joined = {};
  for (const name of Object.keys(fresh)) {
    const before = known[name] ?? known.at.map(() => null); // a server of another version may know more
    joined[name] = [...before.slice(from, from + keep), ...fresh[name]];
  }
  return joined;
}
