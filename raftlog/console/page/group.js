// One group: who reads what, how far; and having it go on elsewhere.
import { Asking, html } from "./core.js";
import { remove, segment } from "./api.js";
import { whole } from "./format.js";
import { stateKind } from "./groups.js";
import { Ask, Card, Dialog, Figure, Form, Pill, Table, Text, Waiting } from "./parts.js";
import { Plot } from "./plot.js";
import { Reset } from "./reset.js";
import { mayChange, say, store } from "./store.js";

const TREND_MAX = 300;

export class Group extends Asking {
  constructor(props) {
    super(props);
    this.trend = [[], []];
  }

  path() { return `groups/detail?id=${segment(this.props.route.query.get("id"))}`; }

  take(data) {
    data.total = data.offsets.reduce((sum, row) => sum + Number(row.lag ?? 0), 0);
    const [at, lag] = this.trend;
    this.trend = [[...at, Date.now() / 1000].slice(-TREND_MAX), [...lag, data.total].slice(-TREND_MAX)];
    super.take(data);
  }

  render({ route }, { data, error, doing }) {
    const id = route.query.get("id");
    const close = () => { this.setState({ doing: null }); this.ask(); };
    return html`<div class="head"><h1>Group</h1><span class="mono">${id === "" ? html`<i class="dim">(no name)</i>` : html`<${Text}>${id}<//>`}</span>
        ${data && html`<${Pill} kind=${stateKind(data.state)}>${data.state}<//>`}<span class="grow"></span>
        ${data && mayChange() && html`<button type="button" onClick=${() => this.setState({ doing: "reset" })}>Reset offsets</button>
          <button class="danger" type="button" onClick=${() => this.setState({ doing: "delete" })}>Delete</button>`}</div>
      <p class="lead">Where its consumers are, and how much they have not read yet.</p>
      <${Waiting} data=${data} error=${error} what="asking for the group" />
      ${data && html`<div class="grid">
        <${Card} cls="w4"><div class="figures"><${Figure} name="lag" word="lag" value=${whole(data.total)} /><${Figure} name="members" value=${data.members.length} />
          <${Figure} name="partitions" value=${data.offsets.length} /><${Figure} name="coordinator" word="metadata" value=${`broker ${data.coordinator}`} /></div>
          <p class="dim">${data.protocol ? `assigned by ${data.protocol}` : "no member is there"}</p><//>
        <${Card} title="Lag while this page is open" word="lag" cls="w8"><${Plot} data=${this.trend} seconds=${60} theme=${store.theme} show=${whole} label="lag of this group over time" series=${[{ name: "lag", tint: "term-4", fill: true }]} /><//>
        <${Card} title="Partitions" word="committed"><${Table} label="offsets" columns=${OFFSETS(data)} rows=${data.offsets} keyOf=${(row) => `${row.topic}/${row.partition}`} empty="It has committed nothing yet." /><//>
        <${Card} title="Members" word="group"><${Table} label="members" columns=${MEMBERS} rows=${data.members} keyOf=${(row) => row.id} empty="Nobody is in it now. Its offsets are kept." /><//>
      </div>`}
      ${doing === "reset" && html`<${Reset} group=${data} onDone=${close} />`}
      ${doing === "delete" && html`<${Delete} group=${data} onDone=${close} />`}`;
  }
}

const OFFSETS = (group) => [
  { name: "topic", cls: "name", cell: (row) => html`<a href=${`#/topics/${row.topic}`}>${row.topic}</a>` },
  { name: "partition", cls: "num", cell: (row) => row.partition },
  { name: "committed", cls: "num", cell: (row) => whole(row.committed) },
  { name: "end", cls: "num", cell: (row) => whole(row.end) },
  { name: "lag", cls: "num", cell: (row) => whole(row.lag) },
  { name: "member", cell: (row) => { const one = group.members.find((member) => member.id === row.member); return one ? html`<${Text}>${one.client}<//>` : row.stranded ? html`<${Pill} kind="warn" sign="△">nobody reads it<//>` : html`<span class="dim">–</span>`; } },
  { name: "note", cls: "hide-small", cell: (row) => html`<${Text}>${row.metadata.slice(0, 200)}<//>` },
];

const MEMBERS = [
  { name: "client", cls: "name", cell: (row) => html`<${Text}>${row.client}<//>` },
  { name: "host", cell: (row) => html`<${Text}>${row.host}<//>` },
  { name: "member", cls: "hide-small", cell: (row) => html`<code class="dim"><${Text}>${row.instance ?? row.id}<//></code>` },
  { name: "reads", cell: (row) => row.partitions.slice(0, 12).map(([topic, partition]) => `${topic}-${partition}`).join(", ") + (row.partitions.length > 12 ? " …" : "") },
];

function Delete({ group, onDone }) {
  const topics = [...new Set(group.offsets.map((row) => row.topic))];
  const send = async (form) => {
    const topic = form.get("topic");
    await remove(topic === "*" ? `groups?id=${segment(group.id)}` : `groups/offsets?id=${segment(group.id)}&topic=${segment(topic)}`);
    say(topic === "*" ? "the group is deleted" : `its offsets in ${topic} are forgotten`);
    if (topic === "*") location.hash = "#/groups";
    else onDone();
  };
  return html`<${Dialog} title="Delete offsets" onClose=${onDone}><${Form} action="Delete" danger send=${send} onCancel=${onDone}>
    <p class="dim">What a group committed is gone then: it begins where its consumers' settings say<${Ask} word="committed" />.</p>
    <label class="field"><span>what</span><select name="topic"><option value="*">the whole group</option>${topics.map((topic) => html`<option value=${topic}>its offsets in ${topic}</option>`)}</select></label><//><//>`;
}
