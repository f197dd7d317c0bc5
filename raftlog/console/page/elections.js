// What happened to the Raft groups of all brokers, and why.
import { Component, html } from "./core.js";
import { EventList, eventsWhere, sentence } from "./eventlist.js";
import { Card } from "./parts.js";
import { store } from "./store.js";

const KINDS = [["", "everything"], ["lead", "leaders that came and went"], ["vote", "asking and voting"], ["log", "logs"]];
const IN = { lead: ["leader", "stepped_down", "handing_over", "fault"], vote: ["asked", "candidate", "voted"], log: ["truncated", "snapshot_sent", "filled_anew"] };
const SHOWN_MAX = 300;

export class Elections extends Component {
  state = { kind: "lead", broker: "", text: "" };

  render(_, { kind, broker, text }) {
    const brokers = [...new Set([...store.events.values()].map((event) => event.broker))].sort((a, b) => a - b);
    const wanted = (event) => (!kind || IN[kind].includes(event.kind)) && (!broker || String(event.broker) === broker)
      && (!text || sentence(event).toLowerCase().includes(text.toLowerCase()));
    return html`<div class="head"><h1>Elections</h1></div>
      <p class="lead">Each broker notes what happens to its Raft groups, with the reason: a candidate lives for milliseconds, and no sampling would see it. What befell many groups at once is one line.</p>
      <${Card} title="What happened" word="election"><div class="bar">
        <label>show <select value=${kind} onChange=${(event) => this.setState({ kind: event.target.value })}>${KINDS.map(([v, n]) => html`<option value=${v}>${n}</option>`)}</select></label>
        <label>broker <select value=${broker} onChange=${(event) => this.setState({ broker: event.target.value })}><option value="">all</option>${brokers.map((id) => html`<option value=${String(id)}>${id || "the console"}</option>`)}</select></label>
        <input class="wide" type="search" aria-label="words in it" placeholder="topic, reason …" value=${text} onInput=${(event) => this.setState({ text: event.target.value })} /></div>
        <${EventList} events=${eventsWhere(wanted, SHOWN_MAX)} empty="Nothing of that kind." /><//>`;
  }
}
