// Numbers, sizes, times and other people's text, for eyes.
import { html } from "./core.js";

const WHOLE = new Intl.NumberFormat("en-US");

/** An integer, also one beyond 2^53, which comes as text. */
export function whole(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return /^-?\d+$/.test(value) ? WHOLE.format(BigInt(value)) : value;
  return WHOLE.format(Math.round(value));
}

export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 || value === 0 ? whole(value) : value.toFixed(value >= 10 ? 1 : 2);
}

export function bytes(value) {
  if (value === null || value === undefined || value < 0) return "–";
  let left = Number(value);
  for (const unit of ["B", "kB", "MB", "GB", "TB"]) {
    if (left < 1000 || unit === "TB") return `${unit === "B" || left >= 100 ? Math.round(left) : left.toFixed(1)} ${unit}`;
    left /= 1000;
  }
  return "";
}

export function percent(share) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

/** UTC; a time that is none stays what it is. */
export function stamp(ms, { day = true } = {}) {
  const at = new Date(Number(ms));
  if (Number.isNaN(at.getTime())) return String(ms);
  const iso = at.toISOString();
  return day ? `${iso.slice(0, 10)} ${iso.slice(11, 23)}` : iso.slice(11, 23);
}

export const local = (ms) => {
  const at = new Date(Number(ms));
  return Number.isNaN(at.getTime()) ? String(ms) : `${at.toString()}`;
};

/** What an eye cannot see or is misled by: controls, directions, zero width, private use, halves of pairs. */
const HIDDEN =
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\ue000-\uf8ff]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

const NAMED = { "\t": "\\t", "\r": "\\r", "\u0000": "\\0" };

export const hasHidden = (text) => text.search(HIDDEN) >= 0;

/** Other people's text as a list of pieces: hidden characters as their codes. `oneLine` shows line ends too. */
export function visible(text, { oneLine = true } = {}) {
  const pieces = [];
  let from = 0;
  const mark = (code) => html`<b class="code" title="a character that cannot be seen">${code}</b>`;
  const pattern = oneLine ? new RegExp(`${HIDDEN.source}|\n`, "g") : HIDDEN;
  for (const found of text.matchAll(pattern)) {
    if (found.index > from) pieces.push(text.slice(from, found.index));
    const char = found[0];
    pieces.push(mark(char === "\n" ? "\\n" : NAMED[char] ?? `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`));
    from = found.index + char.length;
  }
  pieces.push(text.slice(from));
  return pieces;
}

/** JSON with line ends, from its text: numbers keep their digits, however many. Null for what is no JSON. */
export function prettyJson(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value !== "object" || value === null) return null;
  } catch {
    return null;
  }
  const out = [];
  let depth = 0;
  let isDue = false; // a line end, unless the bracket closes at once
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const closes = token === "}" || token === "]";
    if (closes) depth -= 1;
    if (closes ? !isDue : isDue) out.push("\n", "  ".repeat(depth));
    out.push(token === ":" ? ": " : token);
    isDue = token === "{" || token === "[" || token === ",";
    if (token === "{" || token === "[") depth += 1;
  }
  return out.join("");
}

export const hexPairs = (hex) => hex.replace(/(..)(?=.)/g, "$1 ");

/** Sixteen bytes a line: place, hex, and what is text in it. */
export function hexDump(hex, lines = 4096) {
  const out = [];
  for (let at = 0; at < hex.length && out.length < lines; at += 32) {
    const part = hex.slice(at, at + 32);
    const chars = (part.match(/../g) ?? []).map((pair) => {
      const code = parseInt(pair, 16);
      return code >= 32 && code < 127 ? String.fromCharCode(code) : "·";
    });
    out.push(`${(at / 2).toString(16).padStart(6, "0")}  ${hexPairs(part).padEnd(47)}  ${chars.join("")}`);
  }
  return out.join("\n");
}
