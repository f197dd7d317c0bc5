// The screens, in the order of the menu.
import { Brokers } from "./brokers.js";
import { Apis, Clients } from "./clients.js";
import { Elections } from "./elections.js";
import { Group } from "./group.js";
import { Groups } from "./groups.js";
import { Lessons } from "./lessons.js";
import { Overview } from "./overview.js";
import { Raft } from "./raft.js";
import { RaftGroup } from "./raftgroup.js";
import { html } from "./core.js";
import { onlyInside, Quorum } from "./outside.js";
import { Topic } from "./topic.js";
import { Topics } from "./topics.js";
import { isOutside } from "./store.js";

const whenNamed = (list, one) => (props) => {
  const { path } = props.route;
  return path.length > 1 && path[1] !== "" ? html`<${one} ...${props} key=${path.slice(1, 3).join("/")} />` : html`<${list} ...${props} />`;
};

export const SCREENS = [
  { path: "", name: "Overview", view: Overview, icon: "M3 12l9-8 9 8M6 10v9h12v-9" },
  { path: "topics", name: "Topics", view: whenNamed(Topics, Topic), count: (c) => c.topics,
    icon: "M4 6h16M4 12h16M4 18h10" },
  { path: "groups", name: "Groups", view: (props) => (props.route.query.has("id") ? html`<${Group} ...${props} key=${props.route.query.get("id")} />` : html`<${Groups} ...${props} />`),
    count: (c) => c.groups ?? "", icon: "M8 11a3 3 0 100-6 3 3 0 000 6zM16 11a3 3 0 100-6 3 3 0 000 6zM2 19c0-3 2.5-5 6-5s6 2 6 5M15 14c3.5 0 6 2 6 5" },
  { path: "brokers", name: "Brokers", view: Brokers, count: (c) => c.brokers, icon: "M4 4h16v6H4zM4 14h16v6H4zM8 7h.01M8 17h.01" },
  { path: "raft", name: "Raft", view: (props) => (props.route.path.length > 2 ? html`<${RaftGroup} ...${props} key=${props.route.path.join("/")} />` : html`<${Raft} ...${props} />`),
    icon: "M12 7a2.5 2.5 0 100-5 2.5 2.5 0 000 5zM5 21a2.5 2.5 0 100-5 2.5 2.5 0 000 5zM19 21a2.5 2.5 0 100-5 2.5 2.5 0 000 5zM11 7l-5 9M13 7l5 9M8 18.5h8" },
  { path: "elections", name: "Elections", view: Elections, icon: "M9 12l2 2 4-5M5 4h14v16H5z" },
  { path: "clients", name: "Clients", view: Clients, icon: "M4 5h16v11H4zM2 20h20" },
  { path: "apis", name: "APIs", view: Apis, icon: "M8 6l-6 6 6 6M16 6l6 6-6 6" },
  { path: "lessons", name: "Lessons", view: Lessons, dev: true, icon: "M3 6c4-2 7-1 9 1 2-2 5-3 9-1v13c-4-2-7-1-9 1-2-2-5-3-9-1z" },
];

/** What stands in place of a screen on a page that is served beside the cluster. */
const OUTSIDE = {
  raft: Quorum,
  elections: onlyInside("Elections", "Elections, and why each was, are noted by the brokers."),
  clients: onlyInside("Clients", "Who is connected to a broker, only the broker knows."),
  apis: onlyInside("APIs", "What was asked of a broker, only the broker knows."),
};

export function screenOf(path) {
  const found = SCREENS.find((screen) => screen.path === path[0]) ?? SCREENS[0];
  return isOutside() && OUTSIDE[found.path] ? { ...found, view: OUTSIDE[found.path] } : found;
}
