// Consumer groups, and how far behind they are.
import { Asking, html } from "./core.js";
import { query, segment } from "./api.js";
import { whole } from "./format.js";
import { Begin, Card, Pill, saveCsv, Table, Text, Waiting } from "./parts.js";

export const stateKind = (state) => ({ Stable: "good", Empty: "", Dead: "bad" })[state] ?? "warn";

export class Groups extends Asking {
  constructor(props) {
    super(props);
    Object.assign(this.state, { search: "", pages: [null] });
  }

  path() {
    const { search, pages } = this.state;
    return `groups${query({ search, limit: 100, after: pages[pages.length - 1] })}`;
  }

  render(_, { data, error, search, pages }) {
    const rows = data?.items ?? [];
    return html`<div class="head"><h1>Groups</h1></div>
      <p class="lead">Consumers of one group share a topic's partitions. Lag is what a group has not read yet; it should not grow for long.</p>
      <${Card}><div class="bar"><input class="wide" type="search" aria-label="search groups" placeholder="search by id" value=${search} onInput=${(event) => this.setState({ search: event.target.value, pages: [null] })} />
        <button type="button" onClick=${() => saveCsv("groups.csv", ["group", "state", "members", "lag"], rows.map((r) => [r.id, r.state, r.members, r.lag]))}>CSV</button></div>
      <${Waiting} data=${data} error=${error} what="asking for groups" />
      ${data && html`<${Table} label="groups" columns=${COLUMNS} rows=${rows} keyOf=${(row) => row.id} empty=${search ? "No group has that in its id." : html`No group has consumed anything yet.<${Begin} />`} />`}
      ${data && html`<div class="bar small dim"><span>${whole(data.total)} in all</span><span class="grow"></span>
        ${pages.length > 1 && html`<button type="button" onClick=${() => this.setState({ pages: pages.slice(0, -1) })}>back</button>`}
        ${data.next && html`<button type="button" onClick=${() => this.setState({ pages: [...pages, data.next] })}>more</button>`}</div>`}<//>`;
  }
}

const COLUMNS = [
  { name: "group", word: "group", cls: "name", cell: (row) => html`<a href=${`#/groups?id=${segment(row.id)}`}>${row.id === "" ? html`<i class="dim">(no name)</i>` : html`<${Text}>${row.id}<//>`}</a>` },
  { name: "state", cell: (row) => html`<${Pill} kind=${stateKind(row.state)}>${row.state}<//>` },
  { name: "members", cls: "num", cell: (row) => whole(row.members) },
  { name: "topics", cls: "hide-small", cell: (row) => html`${row.topics.slice(0, 3).join(", ")}${row.topics.length > 3 ? ` and ${row.topics.length - 3} others` : ""}` },
  { name: "lag", cls: "num", word: "lag", cell: (row) => whole(row.lag) },
  { name: "largest", cls: "num", cell: (row) => whole(row.lag_max) },
  { name: "coordinator", cls: "num hide-small", word: "metadata", cell: (row) => row.coordinator ?? "–" },
];
