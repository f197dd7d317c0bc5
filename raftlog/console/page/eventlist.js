// What happened, in sentences.
import { html } from "./core.js";
import { span, stamp, local } from "./format.js";
import { Ask } from "./parts.js";
import { store } from "./store.js";

const others = (count) => (count > 0 ? ` and ${count} other${count > 1 ? "s" : ""}` : "");

/** The groups of an event, in words; an event of many names some of them. */
export function groupsOf(event) {
  const named = event.groups.slice(0, 3);
  return named.join(", ") + others(Math.max(event.count, event.groups.length) - named.length);
}

export function sentence(event, { group = null } = {}) {
  const what = group ?? groupsOf(event);
  const { broker, term, why, other } = event;
  switch (event.kind) {
    case "asked": return `broker ${broker} asks who would vote for it in ${what}: ${why}`;
    case "candidate": return `broker ${broker} stands for election in ${what}, term ${term}`;
    case "leader": return `broker ${broker} leads ${what} in term ${term}: ${why}`;
    case "stepped_down": return `broker ${broker} steps down in ${what}: ${why}`;
    case "handing_over": return `broker ${broker} hands ${what} over: ${why}`;
    case "voted": return `broker ${broker} votes for broker ${other} in ${what}, term ${term}`;
    case "truncated": return `broker ${broker} drops entries of ${what} that were never acknowledged: ${why}`;
    case "snapshot_sent": return `broker ${broker} sends all of ${what}: ${why}`;
    case "filled_anew": return `broker ${broker} fills ${what} anew: ${why}`;
    case "fault": return why;
    default: return `broker ${broker}: ${event.kind} of ${what}: ${why}`;
  }
}

const TINT = { leader: "good", stepped_down: "warn", fault: "bad", truncated: "warn", filled_anew: "warn" };

/** Events of the store, the newest first. */
export function eventsWhere(wanted, limit) {
  const found = [...store.events.values()].filter(wanted);
  return found.sort((a, b) => b.last_at - a.last_at).slice(0, limit);
}

/** How long a group was without a leader before this one led, when that is known: not of a leader that was cut
 * off, and steps down when another leads already. */
export function gapBefore(event, group) {
  if (event.kind !== "leader") return null;
  let last = null;
  for (const one of store.events.values()) {
    if (one === event || (one.kind !== "stepped_down" && one.kind !== "leader") || !one.groups.includes(group)) continue;
    if (one.at <= event.at && (last === null || one.at > last.at)) last = one;
  }
  return last?.kind === "stepped_down" && event.at - last.at < 60000 ? (event.at - last.at) / 1000 : null;
}

export function EventList({ events, group, empty }) {
  if (events.length === 0) return html`<p class="empty">${empty ?? "Nothing happened: that is good."}</p>`;
  return html`<ol class="events" aria-live="polite" aria-label="what happened" tabindex="0">${events.map((event) => {
    const gap = group ? gapBefore(event, group) : null;
    return html`<li key=${event.id}><time title=${local(event.at)}>${stamp(event.at, { day: false })}</time>
      <span><span class=${TINT[event.kind] ?? ""}>${sentence(event, { group })}</span>${gap !== null && html`<span class="dim">, ${span(gap)} without a leader</span>`}
      ${event.why.includes("preferred leader") && html`<${Ask} word="preferred" />`}</span></li>`;
  })}</ol>`;
}
