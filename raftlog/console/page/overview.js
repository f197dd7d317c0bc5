// Is it well, and what is going on: the page that stays open.
import { Asking, html } from "./core.js";
import { EventList, eventsWhere } from "./eventlist.js";
import { bytes, percent, rate, span, whole } from "./format.js";
import { Begin, Card, Figure, Meter, Pill, Waiting } from "./parts.js";
import { Legend, Plot } from "./plot.js";
import { isOutside, store } from "./store.js";

const PLOTS = [
  { title: "Records/s", label: "records written a second", series: [{ name: "written", tint: "term-2", from: "records_in", fill: true }] },
  { title: "Bytes/s", label: "bytes in and out a second", show: bytes,
    series: [{ name: "in", tint: "term-2", from: "bytes_in", fill: true }, { name: "out", tint: "term-1", from: "bytes_out" }] },
  { title: "Produce latency, ms", label: "produce latency of the slowest broker, median and 99th percentile",
    series: [{ name: "p50", tint: "term-2", from: "produce_p50_ms" }, { name: "p99", tint: "term-1", from: "produce_p99_ms" }] },
  { title: "Lag, records", word: "lag", label: "records that groups have not read", show: whole, series: [{ name: "all groups", tint: "term-4", from: "lag", fill: true }] },
];

let made = { history: null, plots: PLOTS };

/** The plots of which there are figures. Columns are made once for each answer: a plot compares them by identity. */
function plots() {
  const { history } = store;
  if (made.history !== history && history) {
    const at = history.at.slice(0, -1).map((ms) => ms / 1000);
    const shown = PLOTS.filter(({ series }) => series.every(({ from }) => history[from]));
    made = { history, plots: shown.map((plot) => ({ ...plot, data: [at, ...plot.series.map(({ from }) => history[from].slice(0, at.length))] })) };
  }
  return made.plots;
}

export function Overview() {
  const { cluster } = store;
  if (!cluster) return html`<${Waiting} what="asking the cluster" />`;
  return html`<div class="head"><h1>Overview</h1></div>
    <p class="lead">${cluster.alive} of ${cluster.brokers} brokers are alive, ${cluster.topics} topics in ${whole(cluster.partitions)} partitions.
      ${cluster.durability !== null && " A record is acknowledged when a majority of its replicas has it on disk."}${cluster.topics === 0 && html`<${Begin} />`}</p>
    <div class="grid">
      <${Problems} problems=${cluster.problems} />
      <${Tiles} />
      ${store.historyError && html`<${Waiting} data=${store.history} error=${store.historyError} />`}
      ${plots().map((plot) => html`<${Card} key=${plot.title} title=${plot.title} word=${plot.word} cls="w6" actions=${html`<${Legend} series=${plot.series} />`}>
        ${plot.data ? html`<${Plot} series=${plot.series} data=${plot.data} theme=${store.theme} label=${plot.label} show=${plot.show} />` : html`<${Waiting} />`}<//>`)}
      ${!isOutside() && html`<${Card} title="What happened" word="election" cls="w8" actions=${html`<a href="#/elections">all of it</a>`}>
        <${EventList} events=${eventsWhere((event) => event.kind !== "voted", 20)} /><//>`}
      ${cluster.metadata && html`<${Card} title="Metadata" word="metadata" cls="w4">
        <dl class="pairs"><dt>leader</dt><dd>${cluster.metadata.leader === null ? html`<span class="bad">nobody</span>` : html`<a href="#/raft/__cluster_metadata/0">broker ${cluster.metadata.leader}</a>`}</dd>
          <dt>term</dt><dd>${cluster.metadata.term}</dd><dt>commit index</dt><dd>${whole(cluster.metadata.commit_index)}</dd>
          ${cluster.durability !== null && html`<dt>durability</dt><dd>${cluster.durability}</dd>`}<dt>${isOutside() ? "this console" : "version"}</dt><dd>${cluster.version}</dd></dl><//>`}
    </div>`;
}

const ADVICE = [
  [/broker .* is down/i, "Start it again; its replicas catch up by themselves. Topics with three replicas go on meanwhile."],
  [/leader/i, "Nothing can be written or read there until a majority of its replicas is back: look at which brokers are down or cut off."],
  [/replica|in.sync/i, "One more broker lost may stop these partitions. They are whole again when the broker is back and has caught up."],
  [/damage/i, "The broker fetches what is damaged from the others. The log of the broker says where it is."],
  [/full|disk/i, "Delete what is not needed, lower retention.ms or retention.bytes, or give the broker a larger disk."],
];

function Problems({ problems }) {
  if (problems.length === 0) return null;
  return html`<section class="card" role="alert"><h2 class="bad">△ What is wrong, and what to do</h2>
    ${problems.slice(0, 12).map((problem) => html`<p><b>${problem}</b><br /><span class="dim">${ADVICE.find(([pattern]) => pattern.test(problem))?.[1] ?? ""}</span></p>`)}
    ${problems.length > 12 && html`<p class="dim">and ${problems.length - 12} others</p>`}</section>`;
}

class Tiles extends Asking {
  path() { return "brokers"; }

  render(_, { data, error }) {
    return html`<${Waiting} data=${data} error=${error} what="asking the brokers" />
      ${data?.map((broker) => html`<${Tile} key=${broker.id} broker=${broker} cls=${data.length % 4 === 0 ? "w3" : "w4"} />`)}`;
  }
}

function Tile({ broker, cls }) {
  const { report } = broker;
  const kind = { alive: "good", down: "bad" }[broker.state] ?? "warn";
  const full = report?.disk ? 1 - report.disk.free / report.disk.total : 0;
  return html`<section class=${`card tile ${cls}`} aria-label=${`broker ${broker.id}`}>
    <div class="bar"><h2><a href="#/brokers">Broker ${broker.id}</a></h2><${Pill} kind=${kind} sign=${kind === "good" ? "✓" : "△"}>${broker.state}<//>
      <span class="grow"></span><span class="dim small">${report?.uptime_s ? `up ${span(report.uptime_s)}` : ""}</span></div>
    <div class="figures"><${Figure} name="leads" word="leader" value=${report ? whole(report.leads) : "–"} more=${report ? `of ${report.replicas}` : ""} />
      ${!isOutside() && html`<${Figure} name="sync p99" word="synctime" value=${report ? `${rate(report.sync_ms.p99)} ms` : "–"} />
        <${Figure} name="CPU" value=${report ? percent(report.cpu) : "–"} /><${Figure} name="memory" value=${report ? bytes(report.rss) : "–"} />`}</div>
    ${report?.disk && html`<div><${Meter} share=${full} label=${`disk ${percent(full)} full`} /><span class="dim small">${bytes(report.bytes)} of records, ${bytes(report.disk.free)} free</span></div>`}
    ${!report && html`<p class="dim">It says nothing of itself.</p>`}
  </section>`;
}
