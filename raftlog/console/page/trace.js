// One record's way, step by step: when each was, and the file that does it.
import { html } from "./core.js";

export const Trace = ({ trace }) => html`<table><thead><tr><th scope="col" class="num">µs</th><th scope="col">step</th></tr></thead>
  <tbody>${trace.map(({ us, step, file }) => html`<tr><td class="num mono">${us}</td><td>${step}<div class="dim small mono">${file}</div></td></tr>`)}</tbody></table>`;
