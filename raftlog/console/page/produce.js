// Writing records by hand.
import { Component, html } from "./core.js";
import { get, post, segment } from "./api.js";
import { Ask, Card, Form } from "./parts.js";
import { isDev, say } from "./store.js";
import { Trace } from "./trace.js";

const KINDS = [["utf8", "text"], ["hex", "hex"], ["null", "null"]];

export class Produce extends Component {
  state = { key: { as: "utf8", text: "" }, value: { as: "utf8", text: "" }, headers: [], done: null, error: null };

  async componentDidMount() {
    const copied = this.props.route.query.get("copy");
    if (!/^\d+\/\d+$/.test(copied ?? "")) return;
    try {
      this.copy(await get(`topics/${segment(this.props.topic.name)}/records/${copied}`));
    } catch (error) {
      this.setState({ error });
    }
  }

  /** A record that was not told whole is not copied: what is written would be another one. */
  copy({ key, value, headers, header_count }) {
    if ([key, value, ...headers.map(([, data]) => data)].some((data) => data?.cut) || header_count > headers.length) {
      throw new Error("This record is not copied: it has more than the page is told, a MiB of a key, value or header, and 100 headers.");
    }
    const plain = (data) => (data === null ? { as: "null", text: "" } : { as: data.as, text: data.text });
    this.setState({ key: key?.size === 0 ? { as: "hex", text: "" } : plain(key), value: plain(value), headers: headers.map(([name, data]) => ({ name, ...plain(data) })) });
  }

  send = async (form) => {
    const { key, value, headers } = this.state;
    const data = ({ as, text }) => (as === "null" ? null : { as, text });
    const body = {
      key: key.as === "utf8" && key.text === "" ? null : data(key), value: data(value), headers: headers.map((one) => [one.name, data(one)]),
      partition: form.get("partition") === "" ? null : Number(form.get("partition")), count: Number(form.get("count") || 1),
    };
    const topic = this.props.topic.name;
    const done = form.get("follow") === "on" ? await post("dev/trace", { topic, partition: body.partition, key: body.key, value: body.value })
      : await post(`topics/${segment(topic)}/records`, body);
    say(`written at offset ${done.offset} of partition ${done.partition}, in ${done.ms} ms`);
    this.setState({ done });
  };

  render({ topic }, { key, value, headers, done, error }) {
    const base = `#/topics/${segment(topic.name)}`;
    return html`<div class="grid"><${Card} title="Write records" word="offset" cls="w7">${error && html`<p class="error" role="alert">${error.message}</p>`}<${Form} action="Write" send=${this.send}>
      <${Input} name="key" data=${key} onChange=${(next) => this.setState({ key: next })} hint=${key.as === "utf8" ? "empty is null" : ""} />
      <${Input} name="value" data=${value} onChange=${(next) => this.setState({ value: next })} tall />
      ${headers.map((header, n) => html`<div class="bar" key=${n}><input aria-label=${`name of header ${n + 1}`} placeholder="header" value=${header.name} onInput=${(event) => this.header(n, { ...header, name: event.target.value })} />
        <input class="wide" aria-label=${`value of header ${n + 1}`} placeholder="value" value=${header.text} onInput=${(event) => this.header(n, { ...header, text: event.target.value })} />
        <button type="button" aria-label=${`take header ${n + 1} away`} onClick=${() => this.setState({ headers: headers.filter((_, m) => m !== n) })}>✕</button></div>`)}
      <p><button class="plain" type="button" onClick=${() => this.setState({ headers: [...headers, { name: "", as: "utf8", text: "" }] })}>add a header</button></p>
      <div class="bar"><label>partition <select name="partition"><option value="">by key</option>${topic.partitions.slice(0, 500).map(({ partition: p }) => html`<option>${p}</option>`)}</select></label>
        <label>times <input name="count" type="number" min="1" max="1000" value="1" /></label>
        ${isDev() && html`<label><input type="checkbox" name="follow" defaultChecked=${this.props.route.query.has("follow")} />follow it, once</label><${Ask} word="follow" />`}</div>
    <//><//>
    ${done && html`<${Card} title="Written" cls="w5"><p>Partition ${done.partition}, offset <a href=${`${base}/${done.partition}/${done.offset}`}>${done.offset}</a>: on a majority of disks in ${done.ms} ms.</p>
      ${done.trace && html`<${Trace} trace=${done.trace} />`}<//>`}</div>`;
  }

  header(n, next) {
    this.setState(({ headers }) => ({ headers: headers.map((one, m) => (m === n ? next : one)) }));
  }
}

const Input = ({ name, data, onChange, hint, tall }) => html`<label class="field"><span>${name} as <select aria-label=${`${name} is`} value=${data.as} onChange=${(event) => onChange({ ...data, as: event.target.value })}>
    ${KINDS.map(([v, n]) => html`<option value=${v}>${n}</option>`)}</select></span>
  ${data.as !== "null" && (tall ? html`<textarea aria-label=${name} value=${data.text} onInput=${(event) => onChange({ ...data, text: event.target.value })}></textarea>`
    : html`<input class="mono" aria-label=${name} placeholder=${hint} value=${data.text} onInput=${(event) => onChange({ ...data, text: event.target.value })} />`)}</label>`;
