// The brokers: what each says of itself, now.
import { Asking, html } from "./core.js";
import { bytes, percent, rate, span, whole } from "./format.js";
import { Card, Pill, saveCsv, Table, Waiting } from "./parts.js";
import { isOutside } from "./store.js";

export class Brokers extends Asking {
  path() { return "brokers"; }

  render(_, { data, error }) {
    return html`<div class="head"><h1>Brokers</h1></div>
      <p class="lead">${isOutside() ? "As the cluster tells any client." : "Each broker speaks for itself. One that says nothing is down, or cut off from the broker that serves this page."}</p>
      <${Waiting} data=${data} error=${error} what="asking the brokers" />
      ${data && html`<div class="grid">
        <${Card} title="All brokers" actions=${html`<button type="button" onClick=${() => csv(data)}>CSV</button>`}><${Table} label="brokers" columns=${COLUMNS(data)} rows=${data} keyOf=${(row) => row.id} /><//>
        ${!isOutside() && html`<${Card} title="Links between them" word="quorum"><${Table} label="links" columns=${LINKS} rows=${links(data)} keyOf=${(row) => `${row.from}-${row.to}`} empty="One broker alone has none." /><//>`}</div>`}`;
  }
}

const of = (name) => (row) => row.report?.[name];
const kindOf = (state) => ({ alive: "good", down: "bad" })[state] ?? "warn";

function COLUMNS(brokers) {
  const fair = brokers.reduce((sum, one) => sum + (one.report?.leads ?? 0), 0) / brokers.length;
  const skew = (row) => (row.report && fair ? ` (${row.report.leads >= fair ? "+" : ""}${Math.round((100 * (row.report.leads - fair)) / fair)} %)` : "");
  return [
    { name: "id", cls: "num", cell: (row) => html`<b>${row.id}</b>` },
    { name: "address", cls: "mono", cell: (row) => `${row.host}:${row.port}` },
    { name: "rack", cls: "hide-small", cell: (row) => row.rack ?? "–" },
    { name: "state", cell: (row) => html`<${Pill} kind=${kindOf(row.state)} sign=${row.state === "alive" ? "✓" : "△"}>${row.state}<//>${row.is_this && html` <span class="dim small">serves this page</span>`}` },
    { name: "leads", cls: "num", word: "leader", cell: (row) => html`${whole(of("leads")(row))}<span class="dim">${skew(row)}</span>` },
    { name: "replicas", cls: "num", word: "replica", cell: (row) => whole(of("replicas")(row)) },
    { name: "records", cls: "num", cell: (row) => bytes(of("bytes")(row)) },
    { name: "disk free", cls: "num", cell: (row) => bytes(row.report?.disk?.free) },
    ...(isOutside() ? [] : INSIDE),
  ];
}

const INSIDE = [
  { name: "CPU", cls: "num", cell: (row) => percent(of("cpu")(row)) },
  { name: "memory", cls: "num", cell: (row) => bytes(of("rss")(row)) },
  { name: "sync p99", cls: "num", word: "synctime", cell: (row) => (row.report ? `${rate(row.report.sync_ms.p99)} ms` : "–") },
  { name: "up", cls: "num", cell: (row) => span(of("uptime_s")(row)) },
];

const links = (brokers) => brokers.flatMap((one) => (one.report?.links ?? []).map((link) => ({ from: one.id, ...link })));

const LINKS = [
  { name: "from", cls: "num", cell: (row) => row.from },
  { name: "to", cls: "num", cell: (row) => row.to },
  { name: "state", cell: (row) => html`<${Pill} kind=${row.connected ? "good" : "bad"} sign=${row.connected ? "✓" : "△"}>${row.connected ? "connected" : "not connected"}<//>` },
  { name: "sent", cls: "num", cell: (row) => bytes(row.bytes) },
  { name: "waiting", cls: "num", cell: (row) => bytes(row.queued_bytes) },
  { name: "frames dropped", cls: "num", cell: (row) => whole(row.dropped_frames) },
];

function csv(brokers) {
  saveCsv("brokers.csv", ["id", "address", "state", "leads", "replicas", "bytes", "free"], brokers.map((b) => [b.id, `${b.host}:${b.port}`, b.state, b.report?.leads, b.report?.replicas, b.report?.bytes, b.report?.disk?.free]));
}
