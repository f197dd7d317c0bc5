// The records of a topic: found by place, by time, by what they hold; or as they come.
import { Component, html } from "./core.js";
import { get, query, segment, url } from "./api.js";
import { bytes, hasHidden, hexPairs, local, stamp, visible, whole } from "./format.js";
import { Card, Pill, save, Waiting } from "./parts.js";
import { RecordView } from "./record.js";

const ROWS_MAX = 500;
const SHOWN_CHARS = 300;
const IN = { "key,value,headers": "anywhere", key: "key", value: "value", headers: "headers" };

export const idOf = (record) => `${record.partition}/${record.offset}`;

export class Messages extends Component {
  constructor(props) {
    super(props);
    const q = props.route.query;
    this.state = {
      from: q.get("from") ?? "newest", at: q.get("at") ?? "", partition: q.get("partition") ?? "", contains: q.get("contains") ?? "",
      json: q.get("json") ?? "", in: q.get("in") ?? "key,value,headers", as: q.get("as") ?? "auto",
      rows: null, answer: null, error: null, tail: null, skipped: 0, isPaused: false,
    };
    this.turn = 0; // of searches and live tails: what is late is not shown
  }

  componentDidMount() { this.search(); }

  componentWillUnmount() {
    this.turn += 1;
    this.source?.close();
  }

  filters() {
    const { partition, contains, json } = this.state;
    return { partition, contains, json, in: contains ? this.state.in : "" };
  }

  place() {
    const { from, at } = this.state;
    if (from === "time") return `time:${/^\d+$/.test(at) ? at : Date.parse(`${at}Z`) || 0}`;
    return from === "offset" ? `offset:${at || 0}` : from;
  }

  /** The address says what is looked for, so that it can be sent to somebody. */
  remember() {
    const { from, at, as } = this.state;
    const text = query({ ...this.filters(), from: from === "newest" ? "" : from, at: from === "newest" ? "" : at, as: as === "auto" ? "" : as });
    history.replaceState(null, "", `#/topics/${segment(this.props.topic.name)}/messages${text}`);
  }

  search = async (event, places = "") => {
    event?.preventDefault();
    this.stop();
    if (event) this.remember();
    const turn = this.turn += 1;
    try {
      const answer = await get(`topics/${segment(this.props.topic.name)}/records${query({ ...this.filters(), from: this.place(), limit: 50, places })}`);
      if (turn !== this.turn) return;
      const rows = places ? [...this.state.rows, ...answer.records].slice(-ROWS_MAX) : answer.records;
      this.setState({ rows, answer, error: null });
    } catch (error) {
      if (turn === this.turn) this.setState({ error });
    }
  };

  more = () => {
    const places = Object.entries(this.state.answer.next).map(([p, at]) => `${p}:${at}`).join(",");
    this.search(null, places);
  };

  follow = () => {
    this.turn += 1;
    this.source = new EventSource(url(`topics/${segment(this.props.topic.name)}/tail${query(this.filters())}`));
    this.source.addEventListener("record", (message) => {
      const { records, skipped } = JSON.parse(message.data);
      if (this.state.isPaused || (records.length === 0 && skipped === 0)) return;
      this.setState(({ rows, skipped: before }) => ({ rows: [...records.reverse(), ...(rows ?? [])].slice(0, ROWS_MAX), skipped: before + skipped }));
    });
    this.source.addEventListener("bye", () => this.end("has ended"));
    this.source.addEventListener("error", () => this.end(this.source.readyState === EventSource.CLOSED ? "was refused" : "broke off"));
    this.setState(({ rows }) => ({ tail: this.source, skipped: 0, isPaused: false, error: null, rows: rows ?? [] }));
  };

  /** The browser would follow again by itself, from the end that is there then: what came meanwhile would be missing. */
  end(how) {
    this.stop();
    this.setState({ error: new Error(`The live tail ${how}: what comes now is not shown.`) });
  }

  stop() {
    this.source?.close();
    this.source = null;
    if (this.state.tail) this.setState({ tail: null });
  }

  render({ topic, shown }, state) {
    const { rows, answer, error, tail, skipped, isPaused, from, as } = state;
    const set = (name) => (event) => this.setState({ [name]: event.target.value });
    const open = shown && `${shown.partition}/${shown.offset}`;
    return html`<div class="grid"><${Card} cls=${shown ? "w7" : ""}>
      <form class="bar" onSubmit=${this.search} role="search">
        <label>from <select value=${from} onChange=${set("from")}>
          ${[["newest", "newest"], ["oldest", "oldest"], ["offset", "offset"], ["time", "time (UTC)"]].map(([v, n]) => html`<option value=${v}>${n}</option>`)}</select></label>
        ${from === "offset" && html`<input type="number" min="0" aria-label="offset" placeholder="offset" value=${state.at} onInput=${set("at")} />`}
        ${from === "time" && html`<input type="datetime-local" step="0.001" aria-label="time in UTC" value=${state.at} onInput=${set("at")} />`}
        <label>partition <select value=${state.partition} onChange=${set("partition")}><option value="">all</option>
          ${topic.partitions.slice(0, 500).map(({ partition: p }) => html`<option value=${String(p)}>${p}</option>`)}</select></label>
        <input class="wide" type="search" aria-label="text to look for" placeholder="contains this text" value=${state.contains} onInput=${set("contains")} />
        <label>in <select value=${state.in} onChange=${set("in")}>${Object.entries(IN).map(([v, n]) => html`<option value=${v}>${n}</option>`)}</select></label>
        <input type="search" aria-label="JSON field" placeholder="JSON: total>17.12" value=${state.json} onInput=${set("json")} />
        <label>as <select value=${as} onChange=${set("as")}>${["auto", "text", "hex"].map((v) => html`<option value=${v}>${v}</option>`)}</select></label>
        <button class="main">Search</button>
        ${tail ? html`<button type="button" onClick=${() => this.setState({ isPaused: !isPaused })}>${isPaused ? "▶ Go on" : "❚❚ Pause"}</button>
            <button type="button" onClick=${() => this.stop()}>■ Stop</button>`
          : html`<button type="button" onClick=${this.follow}>▶ Live tail</button>`}
        <button type="button" disabled=${!rows?.length} onClick=${() => save(`${topic.name}.jsonl`, rows.map((row) => JSON.stringify(row)).join("\n"), "application/jsonl")}>Save</button>
      </form>
      <p class="dim small" aria-live="polite">${tail ? `following${skipped ? `; ${whole(skipped)} skipped, since more came than anybody reads` : ""}` : answer && said(answer)}</p>
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
      ${!rows && !error && html`<${Waiting} what="asking for records" />`}
      ${rows && html`<${Rows} topic=${topic.name} rows=${rows} open=${open} as=${as} isNarrow=${Boolean(shown)} />`}
      ${!tail && answer && hasMore(answer) && html`<p><button type="button" onClick=${this.more}>${from === "newest" ? "Older ones" : "More"}</button></p>`}
    <//>
    ${shown && html`<${RecordView} key=${open} topic=${topic} place=${shown} cls="w5" />`}</div>`;
  }
}

const STOPPED = { limit: "there are more", end: "that is all", bytes: "8 MiB were read", time: "two seconds were over" };

const hasMore = (answer) => Object.keys(answer.next).length > 0 && !answer.is_all;

function said({ scanned, records, stopped, is_all }) {
  return `scanned ${whole(scanned.records)} records, ${bytes(scanned.bytes)} in ${(scanned.ms / 1000).toFixed(2)} s · ${whole(records.length)} match · ${is_all ? STOPPED.end : stopped === "end" ? STOPPED.limit : STOPPED[stopped]}`;
}

function Rows({ topic, rows, open, as, isNarrow }) {
  if (rows.length === 0) return html`<p class="empty">No record here.</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label="records"><table class="records">
    <thead><tr><th scope="col" class="c-time">time (UTC)</th><th scope="col" class="num c-part">part.</th><th scope="col" class="num c-offset">offset</th>
      <th scope="col" class="c-key">key</th><th scope="col">value</th>${!isNarrow && html`<th scope="col" class="num c-head hide-small">headers</th><th scope="col" class="num c-size hide-small">size</th>`}</tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${idOf(row)} aria-selected=${idOf(row) === open ? "true" : undefined}>
      <td class="mono" title=${local(row.timestamp)}>${stamp(row.timestamp)}</td><td class="num">${row.partition}</td>
      <td class="num mono"><a href=${`#/topics/${segment(topic)}/${row.partition}/${row.offset}`} aria-label=${`open record ${row.offset} of partition ${row.partition}`}>${row.offset}</a></td>
      <td class="mono"><${Data} data=${row.key} as=${as} none="null" /></td><td class="mono"><${Data} data=${row.value} as=${as} none="tombstone" /></td>
      ${!isNarrow && html`<td class="num hide-small">${whole(row.header_count)}</td><td class="num hide-small">${bytes((row.key?.size ?? 0) + (row.value?.size ?? 0))}</td>`}</tr>`)}</tbody></table></div>`;
}

/** A key or a value on one line. */
export function Data({ data, as, none }) {
  if (data === null) return html`<${Pill} kind=${none === "tombstone" ? "warn" : ""}>${none}<//>`;
  if (data.size === 0) return html`<${Pill}>empty<//>`;
  if (data.as === "hex" && as !== "text") return html`<${Pill}>hex, ${bytes(data.size)}<//> ${hexPairs(data.text.slice(0, 96))}`;
  if (as === "hex") return hexPairs(hexOf(data).slice(0, 96));
  const text = data.text.slice(0, SHOWN_CHARS);
  return html`${data.cut && html`<${Pill}>${bytes(data.size)}<//> `}${hasHidden(text) && html`<${Pill} kind="warn">hidden characters<//> `}<bdi>${visible(text)}</bdi>`;
}

export const hexOf = (data) => (data.as === "hex" ? data.text
  : [...new TextEncoder().encode(data.text)].map((byte) => byte.toString(16).padStart(2, "0")).join(""));

