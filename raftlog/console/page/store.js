// All that the page knows of the cluster, in one object, and one redraw a frame when it changes.
export const EVENTS_MAX = 1000;
export const STALE_MS = 4000;

export const store = {
  /** What this page may do, and who serves it: /api/v1/about. */
  about: null,
  /** /api/v1/cluster. */
  cluster: null,
  /** Series of the last ten minutes, columns by name; and why there are no newer ones. */
  history: null,
  historyError: null,
  /** What happened, by id, the oldest first. */
  events: new Map(),
  /** Of `raftlog dev`: brokers and what is done to them. */
  dev: null,
  /** "connecting", "live" or "reconnecting", and when the server was last heard. */
  link: "connecting",
  heardAt: 0,
  refused: null,
  login: null,
  note: null,
  word: null,
  theme: document.documentElement.dataset.theme ?? "auto",
  route: { path: [], query: new URLSearchParams() },
};

let draw = () => {};
let isDue = false;

export function onChange(redraw) {
  draw = redraw;
}

export function change(mutate) {
  mutate?.();
  if (isDue) return;
  isDue = true;
  requestAnimationFrame(() => {
    isDue = false;
    draw();
  });
}

/** Take events of the stream: one that grew takes the place of what was told of it before. */
export function takeEvents(rows) {
  for (const row of rows) {
    row.at = Number(row.at);
    row.last_at = Number(row.last_at);
    store.events.delete(row.id);
    store.events.set(row.id, row);
  }
  while (store.events.size > EVENTS_MAX) store.events.delete(store.events.keys().next().value);
}

export function say(text, kind = "good") {
  const note = { text, kind };
  change(() => { store.note = note; });
  setTimeout(() => change(() => { if (store.note === note) store.note = null; }), 6000);
}

export const mayChange = () => store.about?.may_change === true;
export const isDev = () => store.about?.mode === "dev";
/** Whether the page is served beside the cluster, by `raftlog console`: what is inside a broker is not told then. */
export const isOutside = () => store.about?.mode === "outside";
