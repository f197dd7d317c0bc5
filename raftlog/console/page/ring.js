// The brokers of a group in a ring, and the links between them.
import { html } from "./core.js";
import { bytes } from "./format.js";
import { termTint } from "./raft.js";
import { store } from "./store.js";

const SIZE = 400;
const CENTER = SIZE / 2;
const MIDDLE = 180;

function places(brokers) {
  const radius = brokers.length === 1 ? 0 : 132;
  return new Map(brokers.map((broker, n) => {
    const angle = (2 * Math.PI * n) / brokers.length - Math.PI / 2;
    return [broker, { x: CENTER + radius * Math.cos(angle), y: MIDDLE + radius * Math.sin(angle) }];
  }));
}

export function Ring({ brokers, said, links, onLink }) {
  const at = places(brokers);
  const pairs = brokers.flatMap((a, n) => brokers.slice(n + 1).map((b) => [a, b]));
  const node = brokers.length > 7 ? 24 : 37;
  return html`<svg class="ring" viewBox=${`0 0 ${SIZE} ${brokers.length === 3 ? 312 : 380}`} role="group" aria-label="brokers and links">
    ${pairs.map(([a, b]) => html`<${Link} key=${`l${a}-${b}`} a=${a} b=${b} at=${at} links=${links} onLink=${onLink} isSmall=${brokers.length > 7} />`)}
    ${brokers.map((broker) => html`<${Node} key=${broker} broker=${broker} at=${at.get(broker)} view=${said[broker]} radius=${node} />`)}
  </svg>`;
}

const isCut = (a, b) => (store.dev?.cuts ?? []).some(([x, y]) => (x === a && y === b) || (x === b && y === a));

function Link({ a, b, at, links, onLink, isSmall }) {
  const [from, to] = [at.get(a), at.get(b)];
  const cut = isCut(a, b);
  const isUp = [`${a}-${b}`, `${b}-${a}`].some((key) => links.connected.get(key));
  const known = links.rates.has(`${a}-${b}`) || links.rates.has(`${b}-${a}`);
  const sent = (links.rates.get(`${a}-${b}`) ?? 0) + (links.rates.get(`${b}-${a}`) ?? 0);
  const label = cut ? "✂ cut" : !isUp ? "down" : known ? `${bytes(sent)}/s` : "…";
  const [x, y] = [(from.x + to.x) / 2, (from.y + to.y) / 2];
  const state = cut ? "cut" : isUp ? "" : "down";
  const act = onLink && (() => onLink(a, b, !cut));
  const words = `${cut ? "heal" : "cut"} the link between brokers ${a} and ${b}`;
  const chip = act ? { role: "button", tabindex: "0", "aria-label": words, "aria-pressed": String(cut), onClick: act, onKeyDown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); } } } : {};
  return html`<g><line class=${`link ${state}`} x1=${from.x} y1=${from.y} x2=${to.x} y2=${to.y} />
    ${!(isSmall && !cut) && html`<g class=${`chip ${cut ? "cut" : ""} ${act ? "can" : ""}`} ...${chip}>
      <rect x=${x - 36} y=${y - 13} width="72" height="26" rx="13" /><text x=${x} y=${y + 4} class="sub">${label}</text></g>`}</g>`;
}

function Node({ broker, at, view, radius }) {
  const leads = view?.role === "leader";
  const tint = view ? termTint(view.term) : "var(--dim)";
  const ink = leads ? "var(--on-term)" : "var(--text)";
  const process = store.dev?.brokers.find((one) => one.id === broker)?.state;
  const role = process && process !== "running" ? process : view?.role ?? "says nothing";
  return html`<g class=${view ? "" : "gone"} aria-label=${`broker ${broker}, ${role}${view ? `, term ${view.term}` : ""}`} role="img">
    <circle cx=${at.x} cy=${at.y} r=${radius} fill=${leads ? tint : "var(--card)"} stroke=${tint} stroke-width="3" />
    <text class="who" x=${at.x} y=${at.y - 2} style=${{ fill: ink }}>${broker}</text>
    <text class="sub" x=${at.x} y=${at.y + 15} style=${{ fill: ink }}>${view ? `term ${view.term}` : "–"}</text>
    <text x=${at.x} y=${at.y + radius + 18}>${role}</text></g>`;
}
