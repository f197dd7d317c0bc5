// One Raft group at work: who leads, who follows how closely, and what happened.
import { Asking, html } from "./core.js";
import { get, post, segment } from "./api.js";
import { EventList, eventsWhere } from "./eventlist.js";
import { BrokerFaults, toggleLink } from "./faults.js";
import { rate, whole } from "./format.js";
import { Lanes, WINDOW_MS } from "./lanes.js";
import { Ask, Card, Figure, Meter, Waiting } from "./parts.js";
import { Legend, Plot } from "./plot.js";
import { addressOf, termTint } from "./raft.js";
import { Ring } from "./ring.js";
import { isDev, mayChange, say, store } from "./store.js";

const SAMPLES_MAX = 240;
const LATENCY = [{ name: "p50", tint: "term-2" }, { name: "p99", tint: "term-1" }];

export class RaftGroup extends Asking {
  constructor(props) {
    super(props);
    this.every = 500;
    this.samples = [];
    this.links = { at: 0, bytes: new Map(), rates: new Map(), connected: new Map() };
    this.rate = [[], []];
  }

  path() {
    const [, topic, partition] = this.props.route.path;
    return `raft/${segment(topic)}/${segment(partition)}`;
  }

  take(data) {
    const now = Date.now();
    const said = Object.entries(data.said_by).filter(([, view]) => view !== null);
    const views = said.map(([, view]) => view);
    data.leads = said.filter(([, view]) => view.role === "leader").sort((a, b) => b[1].term - a[1].term)[0] ?? null;
    data.commit = views.reduce((most, view) => (BigInt(view.commit_index) > most ? BigInt(view.commit_index) : most), 0n);
    data.last = data.leads ? BigInt(data.leads[1].last_index) : views.reduce((most, view) => (BigInt(view.last_index) > most ? BigInt(view.last_index) : most), 0n);
    this.samples = [...this.samples, { at: now, terms: Object.fromEntries(said.map(([broker, view]) => [broker, view.term])), leads: data.leads && Number(data.leads[0]), term: data.leads?.[1].term }]
      .filter((sample) => now - sample.at < WINDOW_MS).slice(-SAMPLES_MAX);
    const before = this.committed;
    this.committed = { at: now, index: data.commit };
    if (before) {
      const [at, rates] = this.rate;
      this.rate = [[...at, now / 1000].slice(-SAMPLES_MAX), [...rates, Math.max(0, (1000 * Number(data.commit - before.index)) / (now - before.at))].slice(-SAMPLES_MAX)];
    }
    super.take(data);
    this.askLinks();
  }

  /** Bytes a second on each link, of what the brokers say they sent. */
  async askLinks() {
    const now = Date.now();
    if (now - this.links.at < 1000) return;
    const before = this.links;
    const next = this.links = { at: now, bytes: new Map(), rates: before.rates, connected: before.connected };
    try {
      const brokers = await get("brokers");
      const rates = new Map();
      const connected = new Map();
      for (const one of brokers) for (const link of one.report?.links ?? []) {
        const key = `${one.id}-${link.to}`;
        next.bytes.set(key, link.bytes);
        connected.set(key, link.connected);
        if (before.bytes.has(key)) rates.set(key, Math.max(0, (1000 * (link.bytes - before.bytes.get(key))) / (now - before.at)));
      }
      Object.assign(next, { rates, connected });
    } catch { /* the next answer has it */ }
  }

  render({ route }, { data, error }) {
    const [, topic, partition] = route.path;
    const name = `${topic}-${partition}`;
    if (!data) return html`<div class="head"><h1>Raft group</h1><span class="mono">${name}</span></div><${Waiting} error=${error} what="asking its brokers" />`;
    const brokers = Object.keys(data.said_by).map(Number);
    const events = eventsWhere((event) => event.groups.includes(name) || event.kind === "fault", 60);
    const recent = events.filter((event) => event.kind === "leader" && Date.now() - event.at < WINDOW_MS).length;
    const leads = data.leads;
    return html`<div class="head"><h1>Raft group</h1><span class="mono">${name}</span><span class="grow"></span>
        ${topic !== "__cluster_metadata" && html`<a class="button" href=${`#/topics/${segment(topic)}`}>records</a>`}<${Groups} name=${name} /></div>
      <p class="lead">Every partition is a Raft group. A record is acknowledged when a majority of the replicas has it on disk: that is the commit index.${isDev() ? " Click a link to cut it." : ""}</p>
      <${Waiting} data=${data} error=${error} />
      <div class="grid">
        <${Card} title="Brokers and links" word="quorum" cls="w4"><${Ring} brokers=${brokers} said=${data.said_by} links=${this.links} onLink=${isDev() && mayChange() ? toggleLink : null} />
          ${isDev() && mayChange() && html`<${BrokerFaults} brokers=${brokers} />`}<//>
        <${Card} cls="w8 few"><div class="figures">
            <${Figure} name="term" word="term" value=${html`<span style=${{ color: termTint(leads?.[1].term) }}>${leads?.[1].term ?? "–"}</span>`} />
            <${Figure} name="leader" word="leader" value=${leads ? leads[0] : "nobody"} cls=${leads ? "" : "bad"} />
            <${Figure} name="commit index" word="commit" value=${whole(String(data.commit))} /><${Figure} name="last index" value=${whole(String(data.last))} />
            <${Figure} name="elections in 60 s" word="election" value=${recent} /></div>
          <${Replicas} data=${data} brokers=${brokers} onTransfer=${mayChange() ? (to) => this.transfer(to) : null} />
          <h3>What happened</h3><${EventList} events=${events.slice(0, 12)} group=${name} /><//>
        <${Card} title="Elections, last 60 s" word="election"><${Lanes} brokers=${brokers} group=${name} samples=${this.samples} events=${events} /><//>
        <${Card} title="Committed entries/s" cls="w6"><${Plot} data=${this.rate} seconds=${60} theme=${store.theme} label="entries committed a second" series=${[{ name: "committed", tint: "term-2", fill: true }]} /><//>
        <${Card} title="Produce latency of the cluster, ms" cls="w6" actions=${html`<${Legend} series=${LATENCY} />`}><${Plot} data=${latencies()} theme=${store.theme} label="produce latency" series=${LATENCY} /><//>
      </div>`;
  }

  async transfer(to) {
    const [, topic, partition] = this.props.route.path;
    try {
      await post(`raft/${segment(topic)}/${segment(partition)}/transfer`, { to });
      say(`broker ${to} is handed the leadership`);
    } catch (error) {
      say(error.message, "bad");
    }
  }
}

let made = { history: null, data: [[], [], []] };

function latencies() {
  const { history } = store;
  if (history && made.history !== history) {
    const from = Math.max(0, history.at.length - 121);
    const cut = (column) => column.slice(from, -1);
    made = { history, data: [cut(history.at).map((ms) => ms / 1000), cut(history.produce_p50_ms), cut(history.produce_p99_ms)] };
  }
  return made.data;
}

class Groups extends Asking {
  path() { return "raft?limit=200"; }

  constructor(props) {
    super(props);
    this.every = 10_000;
  }

  render({ name }, { data, error }) {
    const names = new Set([name, ...(data?.items ?? []).map((one) => one.group)]);
    return html`${error && html`<${Waiting} data=${data} error=${error} />`}<select aria-label="another group" value=${name} onChange=${(event) => { location.hash = addressOf(event.target.value); }}>${[...names].map((one) => html`<option value=${one}>${one}</option>`)}</select>`;
  }
}

function Replicas({ data, brokers, onTransfer }) {
  const followers = new Map((data.leads?.[1].followers ?? []).map((one) => [one.broker, one]));
  const most = Math.max(1, ...[...followers.values()].map((one) => Number(one.behind ?? 0)));
  return html`<div class="scroll" tabindex="0" role="region" aria-label="replicas"><table class="compact replicas"><thead><tr><th scope="col">broker</th><th scope="col">role</th><th scope="col">state</th>
      <th scope="col" class="num">on disk<${Ask} word="disk" /></th><th scope="col" class="num">behind<${Ask} word="behind" /></th><th scope="col" class="num">heard</th>
      <th scope="col">last entries<${Ask} word="log" /></th>${onTransfer && html`<th scope="col"><span class="skip">hand over</span></th>`}</tr></thead>
    <tbody>${brokers.map((broker) => html`<${Replica} key=${broker} broker=${broker} view=${data.said_by[broker]} row=${followers.get(broker)} leads=${data.leads && Number(data.leads[0]) === broker} most=${most} onTransfer=${onTransfer} />`)}</tbody></table></div>`;
}

function Replica({ broker, view, row, leads, most, onTransfer }) {
  const state = leads ? "leads" : row?.state ?? (view ? (view.role === "leader" ? "thinks it leads" : "waits") : "says nothing");
  const isBad = state === "silent" || state === "says nothing" || state === "thinks it leads";
  return html`<tr><td><b>${broker}</b></td><td>${view?.role ?? "–"}</td><td class=${isBad ? "warn" : ""}>${state}</td>
    <td class="num">${whole(row ? row.on_disk : view?.synced_index)}</td>
    <td class="num">${leads ? "0" : whole(row?.behind)}${Number(row?.behind) > 0 && html`<${Meter} share=${Number(row.behind) / most} label=${`${row.behind} entries behind`} />`}</td>
    <td class="num">${leads || !row ? "–" : `${rate(row.heard_ms)} ms`}</td><td><${Cells} view=${view} /></td>
    ${onTransfer && html`<td>${!leads && view && html`<button type="button" onClick=${() => onTransfer(broker)} aria-label=${`hand the leadership to broker ${broker}`}>lead</button>`}</td>`}</tr>`;
}

function Cells({ view }) {
  const recent = view?.recent ?? [];
  const filled = Array.from({ length: Math.max(0, 16 - recent.length) }, () => null).concat(recent.slice(-16));
  const terms = [...new Set(recent.map(([, term]) => term))];
  return html`<div class="cells" role="img" aria-label=${recent.length ? `entries up to ${recent[recent.length - 1][0]}, of term ${terms.join(", ")}` : "unknown"}>
    ${filled.map((entry) => {
      if (!entry) return html`<i></i>`;
      const [index, term] = entry;
      const isCommitted = BigInt(index) <= BigInt(view.commit_index);
      return html`<i title=${`entry ${index} of term ${term}${isCommitted ? "" : ", not committed"}`} style=${{ background: isCommitted ? termTint(term) : "transparent", borderColor: termTint(term) }}></i>`;
    })}</div>`;
}
