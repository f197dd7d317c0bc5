// Having a group go on elsewhere: what would move is shown first, and done with a second click.
import { Component, html } from "./core.js";
import { post, segment } from "./api.js";
import { whole } from "./format.js";
import { Dialog, Table, Text } from "./parts.js";
import { say } from "./store.js";

const KINDS = [
  ["earliest", "to the beginning"], ["latest", "to the end"], ["time", "to a time (UTC)"], ["offset", "to an offset"], ["shift", "by so many records"], ["group", "to where another group is"],
];

export class Reset extends Component {
  state = { kind: "earliest", value: "", rows: null, error: null, busy: false };

  target() {
    const { kind, value } = this.state;
    if (kind === "time") return `time:${Date.parse(`${value}Z`) || 0}`;
    return kind === "earliest" || kind === "latest" ? kind : `${kind}:${value}`;
  }

  send = async (isDry) => {
    this.setState({ busy: true, error: null });
    try {
      const answer = await post(`groups/offsets?id=${segment(this.props.group.id)}`, { to: this.target(), dry_run: isDry });
      this.setState({ rows: answer.rows, busy: false });
      if (!isDry) { say("the group goes on there"); this.props.onDone(); }
    } catch (error) {
      this.setState({ error, busy: false });
    }
  };

  render({ group, onDone }, { kind, value, rows, error, busy }) {
    const input = { time: "datetime-local", offset: "number", shift: "number", group: "text" }[kind];
    const names = group.members.map((member) => member.client || member.id);
    const set = (state) => this.setState({ ...state, rows: null });
    return html`<${Dialog} title="Reset offsets" onClose=${onDone}>
      ${names.length > 0 && html`<p class="error">Its members must be stopped first: <${Text}>${names.slice(0, 10).join(", ")}<//></p>`}
      <form onSubmit=${(event) => { event.preventDefault(); this.send(true); }}><div class="bar">
        <label>move it <select value=${kind} onChange=${(event) => set({ kind: event.target.value })}>${KINDS.map(([v, n]) => html`<option value=${v}>${n}</option>`)}</select></label>
        ${input && html`<input type=${input} step=${input === "datetime-local" ? "0.001" : "1"} aria-label="where" required value=${value} onInput=${(event) => set({ value: event.target.value })} />`}
        <button class=${rows ? "" : "main"} disabled=${busy || names.length > 0}>Show what would move</button></div></form>
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
      ${rows && html`<${Table} label="what would move" columns=${COLUMNS} rows=${rows} keyOf=${(row) => `${row.topic}/${row.partition}`} empty="Nothing would move." />`}
      <div class="bar"><button type="button" onClick=${onDone}>Cancel</button>
        ${rows && rows.length > 0 && html`<button class="main" type="button" disabled=${busy} onClick=${() => this.send(false)}>Move it</button>`}</div><//>`;
  }
}

const COLUMNS = [
  { name: "topic", cell: (row) => row.topic },
  { name: "partition", cls: "num", cell: (row) => row.partition },
  { name: "before", cls: "num", cell: (row) => whole(row.before) },
  { name: "after", cls: "num", cell: (row) => whole(row.after) },
  { name: "moves", cls: "num", cell: (row) => whole(row.moves) },
];
