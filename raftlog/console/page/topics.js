// All topics, searched and sorted by the broker, a page at a time.
import { Asking, html } from "./core.js";
import { query, post } from "./api.js";
import { bytes, rate, whole } from "./format.js";
import { Begin, Card, Dialog, Form, Pill, saveCsv, Table, Waiting } from "./parts.js";
import { mayChange, say } from "./store.js";

export class Topics extends Asking {
  constructor(props) {
    super(props);
    this.every = 3000;
    this.before = new Map();
    Object.assign(this.state, { search: props.route.query.get("search") ?? "", sort: { key: "name", desc: false }, pages: [null], internal: false, creating: false });
  }

  path() {
    const { search, sort, pages } = this.state;
    return `topics${query({ search, sort: sort.key, desc: sort.desc ? 1 : "", limit: 100, after: pages[pages.length - 1] })}`;
  }

  /** Records a second are what came since the last answer. */
  take(data) {
    const now = performance.now();
    for (const row of data.items) {
      const old = this.before.get(row.name);
      const records = Number(row.records);
      row.rate = old ? Math.max(0, (1000 * (records - old.records)) / (now - old.at)) : null;
      this.before.set(row.name, { records, at: now });
    }
    super.take(data);
  }

  change(state) {
    this.setState({ pages: [null], ...state });
  }

  render(_, { data, error, search, sort, pages, internal, creating }) {
    const rows = (data?.items ?? []).filter((row) => internal || !row.internal);
    return html`<div class="head"><h1>Topics</h1></div>
      <p class="lead">A topic is a log in partitions. Each partition is a Raft group of its own, with one leader at a time.</p>
      <${Card}><div class="bar">
        <input class="wide" type="search" aria-label="search topics" placeholder="search by name" value=${search} onInput=${(event) => this.change({ search: event.target.value })} />
        <label><input type="checkbox" checked=${internal} onChange=${() => this.setState({ internal: !internal })} />internal</label>
        <button type="button" onClick=${() => saveCsv("topics.csv", ["name", "partitions", "replicas", "records", "bytes"], rows.map((r) => [r.name, r.partitions, r.replication, r.records, r.bytes]))}>CSV</button>
        ${mayChange() && html`<button class="main" type="button" onClick=${() => this.setState({ creating: true })}>Create a topic</button>`}
      </div>
      <${Waiting} data=${data} error=${error} what="asking for topics" />
      ${data && html`<${Table} label="topics" columns=${COLUMNS} rows=${rows} keyOf=${(row) => row.name} sort=${sort} onSort=${(by) => this.change({ sort: by })}
          empty=${search ? "No topic has that in its name." : html`There is no topic yet.<${Begin} />`} />`}
      ${data && html`<div class="bar small dim"><span>${whole(data.total)} in all</span><span class="grow"></span>
        ${pages.length > 1 && html`<button type="button" onClick=${() => this.setState({ pages: pages.slice(0, -1) })}>back</button>`}
        ${data.next && html`<button type="button" onClick=${() => this.setState({ pages: [...pages, data.next] })}>more</button>`}</div>`}<//>
      ${creating && html`<${Create} onDone=${() => { this.setState({ creating: false }); this.ask(); }} />`}`;
  }
}

const COLUMNS = [
  { name: "name", key: "name", word: "topic", cls: "name", cell: (row) => html`<a href=${`#/topics/${row.name}`}>${row.name}</a>` },
  { name: "partitions", key: "partitions", cls: "num", word: "partition", cell: (row) => whole(row.partitions) },
  { name: "replicas", cls: "num hide-small", word: "replica", cell: (row) => row.replication },
  { name: "records", key: "records", cls: "num", cell: (row) => `${row.records_exact && row.cleanup === "delete" ? "" : "≈ "}${whole(row.records)}` },
  { name: "size", key: "bytes", cls: "num", cell: (row) => bytes(row.bytes) },
  { name: "records/s", cls: "num", cell: (row) => rate(row.rate) },
  { name: "groups", cls: "num", word: "group", cell: (row) => whole(row.groups) },
  { name: "largest lag", cls: "num", word: "lag", cell: (row) => whole(row.lag_max) },
  { name: "state", key: "without_leader", cell: (row) => html`<${State} row=${row} />` },
];

function State({ row }) {
  if (row.without_leader > 0) return html`<${Pill} kind="bad" sign="△">${row.without_leader} without a leader<//>`;
  if (row.under_replicated > 0) return html`<${Pill} kind="warn" sign="△">${row.under_replicated} under-replicated<//>`;
  return html`<${Pill} kind="good" sign="✓">ok<//>`;
}

function Create({ onDone }) {
  const send = async (form) => {
    const number = (name) => (form.get(name) ? Number(form.get(name)) : -1);
    const configs = {};
    if (form.get("cleanup") !== "delete") configs["cleanup.policy"] = form.get("cleanup");
    if (form.get("retention")) configs["retention.ms"] = String(Math.round(3600000 * Number(form.get("retention"))));
    await post("topics", { name: form.get("name"), partitions: number("partitions"), replication: number("replication"), configs });
    say(`topic ${form.get("name")} is there`);
    onDone();
  };
  return html`<${Dialog} title="Create a topic" onClose=${onDone}><${Form} action="Create" send=${send} onCancel=${onDone}>
    <label class="field"><span>name</span><input name="name" required autofocus autocomplete="off" /></label>
    <label class="field"><span>partitions; empty is the cluster's default</span><input name="partitions" type="number" min="1" /></label>
    <label class="field"><span>replicas; empty is the cluster's default</span><input name="replication" type="number" min="1" /></label>
    <label class="field"><span>what becomes of old records</span><select name="cleanup"><option value="delete">deleted after a time</option><option value="compact">the last of each key is kept</option></select></label>
    <label class="field"><span>kept for so many hours; empty is the cluster's default</span><input name="retention" type="number" min="0" step="any" /></label>
  <//><//>`;
}
