// What `raftlog console` shows where a broker's own page shows its inside.
import { Asking, html } from "./core.js";
import { span, whole } from "./format.js";
import { Card, Figure, Pill, Table, Waiting } from "./parts.js";

const WHERE = html`A broker of raftlog shows it on a page of its own: its HTTP port is 9644 unless <code>raftlog.http.listen</code> says another. Apache Kafka tells it to nobody.`;

/** A screen that has nothing to show here. */
export const onlyInside = (name, what) => () => html`<div class="head"><h1>${name}</h1></div>
  <${Card}><p>${what} This page asks the cluster by Kafka's protocol, as any client does, and that does not tell it.</p><p class="dim">${WHERE}</p><//>`;

export class Quorum extends Asking {
  path() { return "quorum"; }

  render(_, { data, error }) {
    return html`<div class="head"><h1>Raft</h1></div>
      <p class="lead">The cluster's metadata is kept by a quorum: who leads it, and how far the others are.</p>
      <div class="grid">
        <${Card} title="The quorum of the metadata" word="metadata"><${Waiting} data=${data} error=${error} what="asking for the quorum" />
          ${data && html`<div class="figures"><${Figure} name="leader" word="leader" value=${data.leader} /><${Figure} name="term" word="term" value=${whole(data.term)} />
              <${Figure} name="commit index" word="commit" value=${whole(data.commit_index)} /></div>
            <${Table} label="members of the quorum" columns=${COLUMNS(data)} rows=${data.members} keyOf=${(row) => row.id} />`}<//>
        <${Card} title="Everything else"><p>The Raft groups of raftlog's partitions are inside its brokers, and not told by Kafka's protocol. In Apache Kafka partitions have none.</p><p class="dim">${WHERE}</p><//>
      </div>`;
  }
}

const ago = (ms) => (ms === null ? "–" : `${span(Math.max(0, (Date.now() - Number(ms)) / 1000))} ago`);

const COLUMNS = (quorum) => {
  const end = quorum.members.reduce((most, one) => (BigInt(one.end) > most ? BigInt(one.end) : most), 0n);
  return [
    { name: "id", cls: "num", cell: (row) => html`<b>${row.id}</b>` },
    { name: "role", cell: (row) => html`<${Pill} kind=${row.id === quorum.leader ? "accent" : ""}>${row.id === quorum.leader ? "leader" : row.voter ? "voter" : "observer"}<//>` },
    { name: "log end", cls: "num", word: "disk", cell: (row) => whole(row.end) },
    { name: "behind", cls: "num", word: "behind", cell: (row) => whole(String(end - BigInt(row.end))) },
    { name: "heard", cls: "num", cell: (row) => (row.id === quorum.leader ? "–" : ago(row.heard)) },
    { name: "had everything", cls: "num hide-small", cell: (row) => (row.id === quorum.leader ? "–" : ago(row.caught_up)) },
  ];
};
