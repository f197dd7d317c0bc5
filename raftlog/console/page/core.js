// What every module draws with. Text is text by construction: nothing here sets HTML.
import { Component, Fragment, h, render } from "./vendor/preact.mjs";
import { get } from "./api.js";
import htm from "./vendor/htm.mjs";

export const html = htm.bind(h);
export { Component, Fragment, render };

/** A component that asks for `path(props)` when it appears, when that changes, and every `every` ms while the
 * page is seen. The answer is `state.data`; `state.error` is why there is none. */
export class Asking extends Component {
  constructor(props) {
    super(props);
    this.state = { data: null, error: null };
    this.every = 2000;
  }

  componentDidMount() {
    this.isThere = true;
    this.ask();
  }

  componentDidUpdate() {
    if (this.asked !== this.path(this.props)) this.ask();
  }

  componentWillUnmount() {
    this.isThere = false;
    clearTimeout(this.timer);
  }

  async ask() {
    clearTimeout(this.timer);
    const path = this.path(this.props);
    this.asked = path;
    if (path && !document.hidden) {
      try {
        const data = await get(path);
        if (this.isThere && this.asked === path) this.take(data);
      } catch (error) {
        if (this.isThere && this.asked === path) this.setState({ error });
      }
    }
    if (this.isThere && this.asked === path) this.timer = setTimeout(() => this.ask(), this.every);
  }

  take(data) {
    this.setState({ data, error: null });
  }
}
