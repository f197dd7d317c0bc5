// What every module draws with. Text is text by construction: nothing here sets HTML.
import { Component, Fragment, h, render } from "./vendor/preact.mjs";
import { get } from "./api.js";
import htm from "./vendor/htm.mjs";

export const html = htm.bind(h);
export { Component, Fragment, render };

const RETRY_MS = 5000;

/** A component that asks for `path(props)` when it appears, when that changes, and every `every` ms while the
 * page is seen; what was due meanwhile is asked for when it is seen again. The answer is `state.data`; `state.error`
 * is why there is none, or no newer one. */
export class Asking extends Component {
  constructor(props) {
    super(props);
    this.state = { data: null, error: null };
    this.every = 2000;
    this.turn = 0;
    this.isDue = false;
    this.seen = () => { if (this.isDue && !document.hidden) this.ask(); };
  }

  componentDidMount() {
    this.isThere = true;
    document.addEventListener("visibilitychange", this.seen);
    this.ask();
  }

  componentDidUpdate() {
    if (this.asked !== this.path(this.props)) this.ask();
  }

  componentWillUnmount() {
    this.isThere = false;
    document.removeEventListener("visibilitychange", this.seen);
    clearTimeout(this.timer);
  }

  async ask() {
    clearTimeout(this.timer);
    const path = this.path(this.props);
    this.isDue = Boolean(document.hidden && this.state.data && this.asked === path);
    if (this.isDue) return;
    this.asked = path;
    const turn = this.turn += 1;
    if (!path) return;
    let wait = this.every;
    const isLate = () => !this.isThere || turn !== this.turn;
    try {
      const data = await get(path);
      if (!isLate()) this.take(data);
    } catch (error) {
      wait = Math.min(wait, RETRY_MS);
      if (!isLate()) this.setState({ error });
    }
    if (!isLate()) this.timer = setTimeout(() => this.ask(), wait);
  }

  take(data) {
    this.setState({ data, error: null });
  }
}
