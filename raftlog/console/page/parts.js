// Pieces that several screens are made of.
import { Component, html } from "./core.js";
import { visible } from "./format.js";
import { change, isDev, store } from "./store.js";
import { WORDS } from "./words.js";

/** A `?` beside a word: two sentences, the chapter, and the file that does it. */
export const Ask = ({ word }) => html`<button class="q" type="button" aria-label=${`what is ${WORDS[word].name}?`}
  aria-expanded=${store.word?.word === word} onClick=${(event) => openWord(word, event.currentTarget)}>?</button>`;

function openWord(word, button) {
  const box = button.getBoundingClientRect();
  const left = Math.max(8, Math.min(box.left, innerWidth - 400));
  const isOpen = store.word?.word === word;
  change(() => { store.word = isOpen ? null : { word, left: left + scrollX, top: box.bottom + scrollY + 6 }; });
}

export function Word() {
  if (!store.word) return null;
  const { word, left, top } = store.word;
  const { name, text, chapter, file } = WORDS[word];
  return html`<aside class="word" role="note" style=${{ left: `${left}px`, top: `${top}px` }}>
    <b>${name}</b><p>${text}</p>
    <p class="small dim">done by <code>raftlog/${file}</code>, explained in <code>docs/${chapter}</code></p>
    <button class="plain" type="button" onClick=${() => change(() => { store.word = null; })}>close</button>
  </aside>`;
}

export const Card = ({ title, word, cls = "", actions, children }) => html`<section class=${`card ${cls}`}>
  ${title && html`<div class="bar"><h2>${title}${word && html`<${Ask} word=${word} />`}</h2>
    <span class="grow"></span>${actions}</div>`}
  ${children}
</section>`;

export const Pill = ({ kind = "", sign, children }) => html`<span class=${`pill ${kind}`}>
  ${sign && html`<span aria-hidden="true">${sign}</span>`}${children}</span>`;

export const Figure = ({ name, word, value, more, cls = "" }) => html`<div class="figure">
  <span>${name}${word && html`<${Ask} word=${word} />`}</span><b class=${cls}>${value}</b>${more && html`<small> ${more}</small>`}
</div>`;

export const Meter = ({ share, label }) => html`<div class="meter" role="img" aria-label=${label}>
  <i style=${{ width: `${Math.max(0, Math.min(100, 100 * share))}%` }}></i></div>`;

/** Other people's text on one line. */
export const Text = ({ children }) => html`<bdi>${visible(String(children ?? ""))}</bdi>`;

/** Where to begin with a cluster of one's own in which nothing has been written. */
export const Begin = () => isDev() && html` <a href="#/lessons">Lessons</a> has a load to look at, and what to do with it.`;

/** What stands where an answer will be, or why there is none; or above one, when no newer one came. */
export function Waiting({ data, error, what }) {
  if (error) return html`<p class="error" role="alert">${error.message}${data && " · What is shown is older."}</p>`;
  if (data) return null;
  return html`<p class="empty" aria-busy="true">${what ?? "asking"} …</p>`;
}

/** Columns are {name, key?, cls?, word?, cell(row)}; a column with a key is sorted by on a click. */
export function Table({ columns, rows, keyOf, sort, onSort, empty, label, cls = "" }) {
  if (rows.length === 0 && empty) return html`<p class="empty">${empty}</p>`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${label}><table class=${cls}>
    <thead><tr>${columns.map((column) => html`<${Heading} column=${column} sort=${sort} onSort=${onSort} />`)}</tr></thead>
    <tbody>${rows.map((row) => html`<tr key=${keyOf(row)}>
      ${columns.map(({ cls: c, cell }) => html`<td class=${c ?? ""}>${cell(row)}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}

function Heading({ column, sort, onSort }) {
  const { name, key, cls, word } = column;
  const ask = word && html`<${Ask} word=${word} />`;
  if (!key || !onSort) return html`<th scope="col" class=${cls ?? ""}>${name}${ask}</th>`;
  const isIt = sort.key === key;
  const flip = () => onSort({ key, desc: isIt ? !sort.desc : cls === "num" });
  return html`<th scope="col" class=${cls ?? ""} aria-sort=${isIt ? (sort.desc ? "descending" : "ascending") : "none"}>
    <button type="button" onClick=${flip}>${name} ${isIt ? (sort.desc ? "↓" : "↑") : ""}</button>${ask}</th>`;
}

export const Tabs = ({ base, tabs, current }) => html`<nav class="tabs" aria-label="views">
  ${tabs.map(([key, name]) => html`<a href=${`${base}/${key}`} aria-current=${key === current ? "page" : undefined}>${name}</a>`)}
</nav>`;

/** A dialog of the browser: it keeps the keyboard inside, and Escape closes it. */
export class Dialog extends Component {
  componentDidMount() {
    this.box.showModal();
  }

  render({ title, onClose, children }) {
    return html`<dialog ref=${(box) => { this.box = box; }} aria-label=${title} onClose=${onClose}
        onCancel=${(event) => { if (!onClose) event.preventDefault(); }}>
      <h2>${title}</h2>${children}
    </dialog>`;
  }
}

/** A form that sends once at a time, and says why it was refused. `send` throws ApiError. */
export class Form extends Component {
  state = { busy: false, error: null };

  submit = async (event) => {
    event.preventDefault();
    if (this.state.busy) return;
    this.setState({ busy: true, error: null });
    try {
      await this.props.send(new FormData(event.target));
      this.setState({ busy: false });
    } catch (error) {
      this.setState({ busy: false, error });
    }
  };

  render({ action, danger, onCancel, children }, { busy, error }) {
    return html`<form onSubmit=${this.submit}>${children}
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
      <div class="bar">${onCancel && html`<button type="button" onClick=${onCancel}>Cancel</button>`}
        <button class=${danger ? "danger" : "main"} disabled=${busy}>${busy ? "…" : action}</button></div>
    </form>`;
  }
}

/** Rows as a file. A cell that a spreadsheet would run begins with an apostrophe. */
export function saveCsv(name, header, rows) {
  const cell = (value) => {
    let text = String(value ?? "");
    if (/^[=+\-@\t\r]/.test(text) && !/^-?[\d.]+$/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  save(name, [header, ...rows].map((row) => row.map(cell).join(",")).join("\r\n"), "text/csv");
}

export function save(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
