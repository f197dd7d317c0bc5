// The last minute: who led in which term, and what was done to the brokers.
import { html } from "./core.js";
import { termTint } from "./raft.js";

export const WINDOW_MS = 60_000;
const MARK_ROWS = 2;

/** Reigns as {broker, term, from, to}, from events; where they say nothing, from what was seen. */
export function reigns(group, events, samples, now) {
  const told = events.filter((one) => one.groups.includes(group) && (one.kind === "leader" || one.kind === "stepped_down")).sort((a, b) => a.at - b.at);
  const found = [];
  for (const event of told) {
    const open = found[found.length - 1];
    if (event.kind === "leader") {
      if (open && open.to === null) open.to = event.at;
      found.push({ broker: event.broker, term: event.term, from: event.at, to: null });
    } else if (open && open.to === null && open.broker === event.broker) open.to = event.at;
  }
  const newest = samples[samples.length - 1];
  const open = found[found.length - 1];
  if (newest?.leads && !(open && open.broker === newest.leads && open.to === null)) {
    const since = samples.find((one) => one.leads === newest.leads && one.term === newest.term).at;
    const isOld = since === samples[0].at && told.every((one) => one.at < now - WINDOW_MS);
    if (open && open.to === null) open.to = since;
    found.push({ broker: newest.leads, term: newest.term, from: isOld ? now - WINDOW_MS : since, to: null });
  } else if (newest && !newest.leads && open && open.to === null) open.to = lastSeen(samples, open) ?? open.from;
  return found.map((one) => ({ ...one, to: one.to ?? now })).filter((one) => one.to > now - WINDOW_MS);
}

const lastSeen = (samples, reign) => samples.filter((one) => one.leads === reign.broker && one.term === reign.term).map((one) => one.at).pop();

/** Which term a broker was in, as it said itself; before that, the term of who led. */
function terms(broker, samples, led, now) {
  const points = samples.filter((one) => one.terms[broker] !== undefined).map((one) => ({ at: one.at, term: one.terms[broker] }));
  const first = points[0]?.at ?? now;
  const before = led.filter((one) => one.from < first).map((one) => ({ at: Math.max(one.from, now - WINDOW_MS), term: one.term }));
  const all = [...before, ...points];
  const runs = [];
  for (const { at, term } of all) {
    const run = runs[runs.length - 1];
    if (run && run.term === term && at - run.to < 3000) run.to = at;
    else {
      if (run && at - run.to < 3000) run.to = at;
      runs.push({ term, from: at, to: at });
    }
  }
  for (let n = 0; n < before.length && n + 1 < runs.length; n += 1) runs[n].to = runs[n + 1].from;
  return runs;
}

export function Lanes({ brokers, group, samples, events }) {
  const now = samples[samples.length - 1]?.at ?? Date.now();
  const led = reigns(group, events, samples, now);
  const x = (at) => `${Math.max(0, Math.min(100, 100 * (1 - (now - at) / WINDOW_MS))).toFixed(2)}%`;
  const wide = (from, to) => `${Math.max(0.3, (100 * (Math.min(to, now) - Math.max(from, now - WINDOW_MS))) / WINDOW_MS).toFixed(2)}%`;
  const marks = events.filter((one) => one.kind === "fault" && now - one.at < WINDOW_MS).sort((a, b) => a.at - b.at);
  return html`<div class="lanes">
    ${brokers.map((broker) => html`<span>broker ${broker}</span><div class="lane" role="img" aria-label=${words(broker, led, now)}>
      ${terms(broker, samples, led, now).map((run) => html`<span class="line" style=${{ left: x(run.from), width: wide(run.from, run.to), background: termTint(run.term) }}></span>`)}
      ${led.filter((one) => one.broker === broker).map((one) => html`<span class="leads" style=${{ left: x(one.from), width: wide(one.from, one.to), background: termTint(one.term) }}>${one.to - one.from > 3000 ? `term ${one.term}` : one.term}</span>`)}
    </div>`)}
    <span></span><div class="axis" aria-hidden="true">${[60, 45, 30, 15, 0].map((s) => html`<span style=${{ left: x(now - 1000 * s) }}>${s ? `−${s} s` : "now"}</span>`)}</div>
    <div class="marks">${marks.map((one, n) => html`<i key=${one.id} style=${{ left: x(one.at) }}></i><b style=${{ left: x(one.at), top: `${-1 + 13 * (n % MARK_ROWS)}px` }}>${one.short}</b>`)}</div>
  </div>`;
}

function words(broker, led, now) {
  const own = led.filter((one) => one.broker === broker);
  if (own.length === 0) return `broker ${broker} did not lead in the last minute`;
  return own.map((one) => `broker ${broker} led in term ${one.term} for ${Math.round((one.to - Math.max(one.from, now - WINDOW_MS)) / 1000)} s`).join(", ");
}
