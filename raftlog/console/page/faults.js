// What `raftlog dev` lets one do to its brokers.
import { html } from "./core.js";
import { post } from "./api.js";
import { change, isDev, mayChange, say, store } from "./store.js";

async function act(path, body) {
  try {
    const dev = await post(path, body);
    change(() => { store.dev = dev; });
  } catch (error) {
    say(error.message, "bad");
  }
}

export const toggleLink = (a, b, cut) => act("dev/links", cut ? { cut: [[a, b]] } : { heal: [[a, b]] });
export const isolate = (broker) => act("dev/links", { cut: store.dev.brokers.filter((one) => one.id !== broker).map((one) => [broker, one.id]) });
export const healAll = () => act("dev/heal", {});
export const process = (broker, what) => act(`dev/brokers/${broker}/${what}`, {});
export const slowDisk = (broker, ms) => act("dev/disk", { broker, slow_ms: ms });
export const setLoad = (load) => act("dev/load", load);

export function troubles(dev) {
  return [
    ...dev.cuts.map(([a, b]) => `link ${a}–${b} is cut`),
    ...dev.brokers.filter((one) => one.state !== "running").map((one) => `broker ${one.id} is ${one.state}`),
    ...dev.brokers.filter((one) => one.slow_ms > 0).map((one) => `disk of ${one.id} is slow`),
  ];
}

export function DevBanner() {
  if (!isDev() || !store.dev) return null;
  const found = troubles(store.dev);
  if (found.length === 0) return null;
  return html`<div class="banner" role="status"><span aria-hidden="true">✂</span>${found.join(" · ")}<span class="grow"></span>
    ${mayChange() && html`<button type="button" onClick=${healAll}>Heal all</button>`}</div>`;
}

export function BrokerFaults({ brokers }) {
  const { dev } = store;
  if (!dev) return null;
  return html`<table class="small faults"><tbody>${dev.brokers.filter((one) => brokers.includes(one.id)).map((one) => html`<tr key=${one.id}>
    <th scope="row">broker ${one.id}</th><td><div class="bar">
      ${one.state === "running" && html`<button type="button" aria-label=${`cut broker ${one.id} off`} onClick=${() => isolate(one.id)}>cut off</button>
        <button type="button" aria-label=${`kill broker ${one.id}`} onClick=${() => process(one.id, "kill")}>kill −9</button>
        <button type="button" aria-label=${`pause broker ${one.id}`} onClick=${() => process(one.id, "pause")}>pause</button>
        <button type="button" aria-label=${`${one.slow_ms ? "heal" : "slow"} the disk of broker ${one.id}`} aria-pressed=${one.slow_ms > 0} onClick=${() => slowDisk(one.id, one.slow_ms ? 0 : 500)}>${one.slow_ms ? "disk is slow" : "slow disk"}</button>`}
      ${one.state === "paused" && html`<button class="main" type="button" onClick=${() => process(one.id, "resume")}>resume ${one.id}</button>`}
      ${one.state === "down" && html`<button class="main" type="button" onClick=${() => process(one.id, "start")}>start ${one.id}</button>`}
      ${one.state === "starting" && html`<span class="dim">is starting …</span>`}</div></td></tr>`)}</tbody></table>`;
}
