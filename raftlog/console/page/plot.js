// One plot over time, by uPlot. Its colours come from the stylesheet, so that it is built anew with the theme.
import { Component, html } from "./core.js";
import { rate, stamp } from "./format.js";

const HEIGHT = 178;

export function color(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const faded = (rgb, share) => rgb.replace(/^rgb\((.*)\)$/, `rgba($1, ${share})`);

export class Plot extends Component {
  componentDidMount() {
    this.sizes = new ResizeObserver(() => {
      if (this.plot && this.box.clientWidth) this.plot.setSize({ width: this.box.clientWidth, height: HEIGHT });
    });
    this.sizes.observe(this.box);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.rebuild = () => this.build();
    this.scheme.addEventListener("change", this.rebuild);
    this.build();
  }

  componentDidUpdate(before) {
    if (before.theme !== this.props.theme) this.build();
    else if (before.data !== this.props.data) this.plot?.setData(this.props.data);
  }

  componentWillUnmount() {
    this.sizes.disconnect();
    this.scheme.removeEventListener("change", this.rebuild);
    this.plot?.destroy();
  }

  build() {
    this.plot?.destroy();
    const { series, data, show = rate, seconds = 0 } = this.props;
    const until = (_, low, high) => [seconds ? Math.min(low ?? 0, (high ?? 0) - seconds) : low, high];
    const [grid, text] = [color("line"), color("dim")];
    const axis = { stroke: text, grid: { stroke: grid, width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot({
      width: this.box.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 6, 0, 0],
      cursor: { y: false, points: { size: 6 } },
      legend: { show: false },
      scales: { x: { time: true, range: until }, y: { range: (_, low, high) => [Math.min(0, low ?? 0), high > 0 ? 1.08 * high : 1] } },
      axes: [
        { ...axis, size: 26, space: 70, values: (_, ticks) => ticks.map((at) => stamp(1000 * at, { day: false }).slice(0, 8)) },
        { ...axis, size: 52, space: 34, values: (_, ticks) => ticks.map(show) },
      ],
      series: [{}, ...series.map(({ name, tint, fill }) => {
        const stroke = color(tint);
        return { label: name, stroke, width: 1.6, points: { show: false }, spanGaps: false, fill: fill ? faded(stroke, 0.13) : undefined };
      })],
    }, data, this.box);
  }

  render({ label }) {
    return html`<div class="plot" role="img" aria-label=${label} ref=${(box) => { this.box = box; }}></div>`;
  }
}

export const Legend = ({ series }) => html`<span class="legend">${series.map(({ name, tint }) =>
  html`<span style=${{ color: `var(--${tint})` }}>${name}</span>`)}</span>`;
