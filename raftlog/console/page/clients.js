// Who talks to the broker that serves this page, and about what.
import { Asking, html } from "./core.js";
import { bytes, rate, span, whole } from "./format.js";
import { Card, Pill, Table, Text, Waiting } from "./parts.js";
import { store } from "./store.js";

const whose = () => (store.about?.broker ? `of broker ${store.about.broker}, which serves this page` : "of the broker that serves this page");

export class Clients extends Asking {
  constructor(props) {
    super(props);
    this.before = new Map();
  }

  path() { return "connections"; }

  take(data) {
    const now = performance.now();
    const seen = new Map();
    for (const row of data.items) {
      row.id = `${row.host} ${row.client_id} ${row.listener} ${Math.round(Date.now() / 1000 - row.since_s)}`;
      const old = this.before.get(row.id);
      row.rate = old ? Math.max(0, (1000 * (row.requests - old.requests)) / (now - old.at)) : null;
      seen.set(row.id, { requests: row.requests, at: now });
    }
    this.before = seen;
    super.take(data);
  }

  render(_, { data, error }) {
    return html`<div class="head"><h1>Clients</h1></div><p class="lead">Kafka connections ${whose()}, the busiest first.</p>
      <${Waiting} data=${data} error=${error} what="asking for connections" />
      ${data && html`<${Card}><${Table} label="connections" columns=${CLIENTS} rows=${data.items} keyOf=${(row) => row.id} empty="Nobody is connected." />
        <p class="dim small">${whole(data.total)} in all</p><//>`}`;
  }
}

const CLIENTS = [
  { name: "client id", cls: "name", cell: (row) => html`<${Text}>${row.client_id || "–"}<//>` },
  { name: "address", cls: "mono", cell: (row) => html`<${Text}>${row.host}<//>` },
  { name: "listener", cls: "hide-small", cell: (row) => row.listener },
  { name: "last request", cell: (row) => row.last_api },
  { name: "requests/s", cls: "num", cell: (row) => rate(row.rate) },
  { name: "in", cls: "num", cell: (row) => bytes(row.bytes_in) },
  { name: "out", cls: "num", cell: (row) => bytes(row.bytes_out) },
  { name: "unanswered", cls: "num", cell: (row) => whole(row.unanswered) },
  { name: "since", cls: "num", cell: (row) => span(row.since_s) },
];

export class Apis extends Asking {
  path() { return "apis"; }

  render(_, { data, error, all }) {
    const rows = (data ?? []).filter((row) => all || row.requests > 0).sort((a, b) => b.requests - a.requests || a.key - b.key);
    return html`<div class="head"><h1>APIs</h1></div><p class="lead">What Kafka clients asked ${whose()}, since its start.</p>
      <${Waiting} data=${data} error=${error} />
      ${data && html`<${Card}><div class="bar"><label><input type="checkbox" checked=${all} onChange=${() => this.setState({ all: !all })} />also those that nobody asked</label></div>
        <${Table} label="APIs" columns=${APIS} rows=${rows} keyOf=${(row) => row.key} empty="Nobody has asked anything yet." /><//>`}`;
  }
}

const ms = (value) => (value === undefined ? "–" : `${rate(value)} ms`);

const APIS = [
  { name: "API", cls: "name", cell: (row) => row.api },
  { name: "versions", cls: "num", cell: (row) => `${row.versions[0]} to ${row.versions[1]}` },
  { name: "requests", cls: "num", cell: (row) => whole(row.requests) },
  { name: "refused", cls: "num", cell: (row) => whole(row.refusals) },
  { name: "failed", cls: "num", cell: (row) => (row.failures ? html`<${Pill} kind="bad">${row.failures}<//>` : whole(row.failures)) },
  { name: "p50", cls: "num", cell: (row) => ms(row.p50_ms) },
  { name: "p99", cls: "num", cell: (row) => ms(row.p99_ms) },
  { name: "in", cls: "num", cell: (row) => bytes(row.request_bytes) },
  { name: "out", cls: "num", cell: (row) => bytes(row.response_bytes) },
];
