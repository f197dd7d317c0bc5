// One record, whole: as text, JSON, or bytes.
import { Asking, html } from "./core.js";
import { segment, url } from "./api.js";
import { bytes, hexDump, local, prettyJson, stamp, visible, whole } from "./format.js";
import { hexOf } from "./messages.js";
import { Ask, Card, Pill, Waiting } from "./parts.js";
import { mayChange, say } from "./store.js";

/** More text than this is shown by its beginning first: drawing it would hold the page up. */
const TEXT_MAX = 64 * 1024;

export class RecordView extends Asking {
  constructor(props) {
    super(props);
    this.every = 3600_000;
    this.state.as = "auto";
  }

  path() {
    const { topic, place } = this.props;
    return `topics/${segment(topic.name)}/records/${place.partition}/${place.offset}`;
  }

  render({ topic, place, cls }, { data, error, as }) {
    const base = `#/topics/${segment(topic.name)}`;
    const choose = ["auto", "text", "json", "hex"];
    return html`<${Card} cls=${cls} title=${`Offset ${place.offset} of partition ${place.partition}`} actions=${html`
        <select aria-label="show the value as" value=${as} onChange=${(event) => this.setState({ as: event.target.value })}>${choose.map((one) => html`<option>${one}</option>`)}</select>
        <a class="button" href=${`${base}/messages`} aria-label="close the record">✕</a>`}>
      <${Waiting} data=${data} error=${error} what="reading the record" />
      ${data && html`
      <dl class="pairs"><dt>time</dt><dd title=${local(data.timestamp)}>${stamp(data.timestamp)} UTC</dd>
        <dt>size</dt><dd>key ${bytes(data.key?.size ?? 0)}, value ${bytes(data.value?.size ?? 0)}</dd></dl>
      <h3>Key</h3><${Body} data=${data.key} as=${as} none="null: it goes to any partition" what="key" />
      <h3>Value</h3><${Body} data=${data.value} as=${as} none="tombstone: the key is deleted" word="tombstone" what="value" />
      <h3>Headers</h3>${data.headers.length === 0 ? html`<p class="dim">none</p>` : html`<dl class="pairs">${data.headers.map(([name, value]) => html`
        <dt class="mono"><bdi>${visible(name)}</bdi></dt><dd class="mono">${value === null ? html`<${Pill}>null<//>` : value.as === "hex" ? value.text : html`<bdi>${visible(value.text)}</bdi>`}</dd>`)}</dl>`}
      ${data.header_count > data.headers.length && html`<p class="dim">and ${whole(data.header_count - data.headers.length)} more</p>`}
      <div class="bar"><a class="button" href=${url(`${this.path()}/value`)} download>Download the value</a>
        ${mayChange() && html`<a class="button" href=${`${base}/produce?copy=${place.partition}/${place.offset}`}>Produce again</a>`}</div>`}<//>`;
  }
}

function Body({ data, as, none, word, what }) {
  if (data === null) return html`<p><${Pill} kind="warn">${none}<//>${word && html`<${Ask} word=${word} />`}</p>`;
  const isHex = as === "hex" || (data.as === "hex" && as !== "text");
  const whole_ = isHex ? hexDump(hexOf(data)) : shape(data, as);
  const shown = whole_.length > TEXT_MAX ? whole_.slice(0, TEXT_MAX) : whole_;
  return html`<pre class=${`body ${isHex ? "hex" : ""}`} tabindex="0" aria-label=${what}>${isHex ? shown : visible(shown, { oneLine: false })}</pre>
    <div class="bar"><button type="button" aria-label=${`copy the ${what}`} onClick=${() => copy(data.text, what)}>Copy</button>
      ${shown !== whole_ && html`<span class="dim small">the first ${bytes(TEXT_MAX)} of it; download has all</span>`}${data.cut && html`<span class="dim small">cut at 1 MiB; download has all</span>`}</div>`;
}

const shape = (data, as) => (as === "text" ? data.text : prettyJson(data.text) ?? data.text);

async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    say(`the ${what} is copied`);
  } catch {
    say("the browser does not let this page copy", "bad");
  }
}
