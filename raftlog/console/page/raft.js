// All Raft groups, what is unwell first.
import { Asking, html } from "./core.js";
import { query, segment } from "./api.js";
import { eventsWhere } from "./eventlist.js";
import { span, whole } from "./format.js";
import { Card, Pill, Table, Waiting } from "./parts.js";

export class Raft extends Asking {
  constructor(props) {
    super(props);
    this.state.search = "";
  }

  path() { return `raft${query({ search: this.state.search, limit: 100 })}`; }

  render(_, { data, error, search }) {
    const rows = data ? [...data.items].sort((a, b) => trouble(b) - trouble(a)) : [];
    return html`<div class="head"><h1>Raft</h1></div>
      <p class="lead">Every partition is a Raft group, and so is the metadata. A record is acknowledged when a majority of the group has it on disk: that is the commit index.</p>
      <${Card}><div class="bar"><input class="wide" type="search" aria-label="search groups" placeholder="search by topic" value=${search} onInput=${(event) => this.setState({ search: event.target.value })} /></div>
      <${Waiting} data=${data} error=${error} what="asking for groups" />
      ${data && html`<${Table} label="Raft groups" columns=${COLUMNS} rows=${rows} keyOf=${(row) => row.group} empty="No group has that in its name." />
        <p class="dim small">${whole(data.total)} on the broker that serves this page${data.total > rows.length ? `; the first ${rows.length} are shown` : ""}</p>`}<//>`;
  }
}

const lagOf = (row) => Math.max(0, ...row.followers.map((one) => Number(one.behind ?? 0)));
const trouble = (row) => (row.leader === null ? 4 : 0) + (row.trusted ? 0 : 2) + (row.followers.some((one) => one.state === "silent") ? 1 : 0);

/** `orders-0` is partition 0 of orders; a topic's name may have dashes of its own. */
export function addressOf(group) {
  const cut = group.lastIndexOf("-");
  return `#/raft/${segment(group.slice(0, cut))}/${group.slice(cut + 1)}`;
}

function last(row) {
  const [event] = eventsWhere((one) => one.kind === "leader" && one.groups.includes(row.group), 1);
  return event ? `${span((Date.now() - event.at) / 1000)} ago: ${event.why}` : "–";
}

const COLUMNS = [
  { name: "group", cls: "name", word: "partition", cell: (row) => html`<a href=${addressOf(row.group)}>${row.group}</a>` },
  { name: "term", cls: "num", word: "term", cell: (row) => html`<b style=${{ color: termTint(row.term) }}>${row.term}</b>` },
  { name: "leader", cls: "num", word: "leader", cell: (row) => row.leader ?? html`<span class="bad">nobody</span>` },
  { name: "here", cls: "hide-small", cell: (row) => row.role },
  { name: "commit", cls: "num", word: "commit", cell: (row) => whole(row.commit_index) },
  { name: "largest follower lag", cls: "num", word: "behind", cell: (row) => (row.followers.length ? whole(lagOf(row)) : html`<span class="dim" title="only a leader knows">–</span>`) },
  { name: "last election", cls: "hide-small small", cell: last },
  { name: "state", cell: (row) => html`<${State} row=${row} />` },
];

function State({ row }) {
  if (row.leader === null) return html`<${Pill} kind="bad" sign="△">no leader<//>`;
  if (!row.trusted) return html`<${Pill} kind="warn" sign="△">is filled anew<//>`;
  const silent = row.followers.filter((one) => one.state === "silent").map((one) => one.broker);
  if (silent.length) return html`<${Pill} kind="warn" sign="△">${silent.join(", ")} silent<//>`;
  return html`<${Pill} kind="good" sign="✓">ok<//>`;
}

/** Colours that stay apart for colour-blind eyes; the number is always beside them. */
export const termTint = (term) => `var(--term-${((term ?? 0) % 6 + 6) % 6})`;
