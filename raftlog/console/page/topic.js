// One topic: its records, partitions, groups, settings, and writing to it.
import { Asking, Fragment, html } from "./core.js";
import { patch, post, remove, segment } from "./api.js";
import { whole } from "./format.js";
import { Messages } from "./messages.js";
import { Card, Dialog, Form, Pill, Table, Tabs, Text, Waiting } from "./parts.js";
import { Produce } from "./produce.js";
import { isOutside, mayChange, say } from "./store.js";

export class Topic extends Asking {
  path() { return `topics/${segment(this.props.route.path[1])}`; }

  render({ route }, { data, error, doing }) {
    const [, name, view = "messages"] = route.path;
    const base = `#/topics/${segment(name)}`;
    const isRecord = /^\d+$/.test(view);
    const tabs = [["messages", "Messages"], ["partitions", "Partitions"], ["groups", "Groups"], ["settings", "Settings"], ...(mayChange() ? [["produce", "Produce"]] : [])];
    return html`<div class="head"><h1>Topic</h1><span class="mono"><${Text}>${name}<//></span><span class="grow"></span>
        ${data && mayChange() && html`<button type="button" onClick=${() => this.setState({ doing: "grow" })}>Add partitions</button>
          <button class="danger" type="button" onClick=${() => this.setState({ doing: "delete" })}>Delete</button>`}</div>
      <p class="lead">${data ? `${data.partitions.length} partitions · ${data.replication} replicas · ${whole(data.records)} records · ${data.cleanup}` : " "}</p>
      <${Tabs} base=${base} tabs=${tabs} current=${isRecord ? "messages" : view} />
      <${Waiting} data=${data} error=${error} what="asking for the topic" />
      ${data && this.view(view, data, route, isRecord)}
      ${doing === "delete" && html`<${Delete} name=${name} onDone=${() => this.setState({ doing: null })} />`}
      ${doing === "grow" && html`<${Grow} name=${name} now=${data.partitions.length} onDone=${() => { this.setState({ doing: null }); this.ask(); }} />`}`;
  }

  view(view, data, route, isRecord) {
    if (view === "partitions") return html`<${Partitions} topic=${data} />`;
    if (view === "groups") return html`<${TopicGroups} topic=${data} />`;
    if (view === "settings") return html`<${Settings} topic=${data} onChange=${() => this.ask()} />`;
    if (view === "produce") return html`<${Produce} topic=${data} route=${route} />`;
    const shown = isRecord ? { partition: Number(view), offset: route.path[3] } : null;
    return html`<${Messages} topic=${data} route=${route} shown=${shown} />`;
  }
}

const Replicas = ({ row }) => row.replicas.map((broker, n) => html`<${Fragment} key=${broker}>${n > 0 && ", "}
  ${broker === row.preferred ? html`<u title="preferred leader">${broker}</u>` : broker}${!row.in_sync.includes(broker) && html`<span class="bad" title="not in sync"> △</span>`}<//>`);

const PARTITIONS = (name) => [
  { name: "partition", cls: "num", word: "partition", cell: (row) => row.partition },
  { name: "leader", cls: "num", word: "leader", cell: (row) => row.leader ?? html`<span class="bad">nobody</span>` },
  { name: "epoch", cls: "num", word: "term", cell: (row) => row.epoch },
  { name: "replicas", word: "preferred", cell: (row) => html`<${Replicas} row=${row} />` },
  { name: "start", cls: "num", word: "offset", cell: (row) => whole(row.start) },
  { name: "end", cls: "num", cell: (row) => whole(row.end) },
  { name: "records", cls: "num", cell: (row) => (row.end === null ? "–" : whole(String(BigInt(row.end) - BigInt(row.start ?? 0)))) },
  { name: "state", cell: (row) => html`<${Pill} kind=${row.state === "ok" ? "good" : "bad"} sign=${row.state === "ok" ? "✓" : "△"}>${row.state.replace("_", " ")}<//>` },
  ...(isOutside() ? [] : [{ name: "", cell: (row) => html`<a href=${`#/raft/${segment(name)}/${row.partition}`} aria-label=${`Raft group of partition ${row.partition}`}>Raft</a>` }]),
];

const Partitions = ({ topic }) => html`<${Card}><${Table} label="partitions" columns=${PARTITIONS(topic.name)} rows=${topic.partitions} keyOf=${(row) => row.partition} /><//>`;

const TopicGroups = ({ topic }) => html`<${Card}>${topic.groups.length === 0
  ? html`<p class="empty">No group has committed anything here.</p>`
  : html`<ul>${topic.groups.map((id) => html`<li><a href=${`#/groups?id=${segment(id)}`}><${Text}>${id}<//></a></li>`)}</ul>`}<//>`;

class Settings extends Asking {
  path() { return null; }

  render({ topic, onChange }, { editing }) {
    const columns = [
      { name: "setting", cls: "name", cell: (row) => html`${row.name}<div class="dim small">${row.doc}</div>` },
      { name: "value", cell: (row) => html`<code><${Text}>${row.value}<//></code>` },
      { name: "default", cls: "hide-small", cell: (row) => html`<code class="dim">${row.default}</code>` },
      { name: "from", cell: (row) => (row.source === "topic" ? html`<${Pill} kind="accent">topic<//>` : html`<span class="dim">${row.source}</span>`) },
      { name: "", cell: (row) => mayChange() && !row.read_only && html`<button type="button" aria-label=${`change ${row.name}`} onClick=${() => this.setState({ editing: row })}>change</button>` },
    ];
    const done = () => { this.setState({ editing: null }); onChange(); };
    return html`<${Card}><${Table} label="settings" columns=${columns} rows=${topic.configs} keyOf=${(row) => row.name} /><//>
      ${editing && html`<${Edit} topic=${topic.name} row=${editing} onDone=${done} />`}`;
  }
}

function Edit({ topic, row, onDone }) {
  const path = `topics/${segment(topic)}/config`;
  const send = async (form) => {
    await patch(path, { set: { [row.name]: form.get("value") } });
    say(`${row.name} is ${form.get("value")}`);
    onDone();
  };
  const reset = async () => { await patch(path, { remove: [row.name] }); onDone(); };
  return html`<${Dialog} title=${row.name} onClose=${onDone}><p class="dim">${row.doc}</p>
    <${Form} action="Set" send=${send} onCancel=${onDone}><label class="field"><span>${row.default === null ? "value" : `${row.type}, default ${row.default}`}</span>
      <input name="value" value=${row.value} autofocus autocomplete="off" /></label><//>
    ${row.source === "topic" && html`<button class="plain" type="button" onClick=${reset}>back to the default</button>`}<//>`;
}

function Grow({ name, now, onDone }) {
  const send = async (form) => {
    await post(`topics/${segment(name)}/partitions`, { total: Number(form.get("total")) });
    say(`${name} has ${form.get("total")} partitions`);
    onDone();
  };
  return html`<${Dialog} title="Add partitions" onClose=${onDone}><${Form} action="Add" send=${send} onCancel=${onDone}>
    <p class="dim">Keys are spread anew: records of one key may then lie in two partitions. Partitions are never taken away.</p>
    <label class="field"><span>partitions in all</span><input name="total" type="number" min=${now + 1} value=${now + 1} required autofocus /></label><//><//>`;
}

function Delete({ name, onDone }) {
  const send = async (form) => {
    await remove(`topics/${segment(name)}`, { confirm: form.get("confirm") });
    say(`topic ${name} is deleted`);
    location.hash = "#/topics";
  };
  return html`<${Dialog} title="Delete the topic" onClose=${onDone}><${Form} action="Delete for ever" danger send=${send} onCancel=${onDone}>
    <p>All records of <b>${name}</b> are deleted. Nobody can bring them back.</p>
    <label class="field"><span>write the topic's name to go on</span><input name="confirm" required autofocus autocomplete="off" /></label><//><//>`;
}
