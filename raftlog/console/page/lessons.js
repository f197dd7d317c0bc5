// An afternoon with Raft, in `raftlog dev`: do something, say first what will happen, and see.
import { Component, html } from "./core.js";
import { get } from "./api.js";
import { healAll, isolate, process, setLoad, slowDisk, toggleLink } from "./faults.js";
import { whole } from "./format.js";
import { Card, Figure } from "./parts.js";
import { say, store } from "./store.js";

const TOPIC = "orders";

/** The leader of the lesson's partition; null while there is none. */
async function leader() {
  try {
    const group = await get(`raft/${TOPIC}/0`);
    const led = Object.entries(group.said_by).filter(([, view]) => view?.role === "leader").sort((a, b) => b[1].term - a[1].term)[0];
    return led ? Number(led[0]) : null;
  } catch (error) {
    say(`start the load first: ${error.message}`, "bad");
    return null;
  }
}

const withLeader = (act) => async () => { const id = await leader(); if (id !== null) await act(id); };

async function cutAll() {
  const ids = store.dev.brokers.map((one) => one.id);
  for (const a of ids) for (const b of ids) if (a < b) await toggleLink(a, b, true);
}

const RAFT = html`<a class="button" href=${`#/raft/${TOPIC}/0`}>watch it</a>`;

const LESSONS = [
  { minutes: 10, title: "Records have places", word: "offset",
    text: "Write three records to orders, with the same key, and then one with another. Open the topic: each has an offset, counted in its partition.",
    ask: "Where does a second record with the same key go?", options: ["To any partition", "To the same partition"], right: 1,
    why: "A key's hash chooses the partition, so that all records of one key are in one order.",
    actions: () => html`<a class="button" href=${`#/topics/${TOPIC}/produce`}>write some</a><a class="button" href=${`#/topics/${TOPIC}`}>see them</a>` },
  { minutes: 15, title: "Lag, and who reads what", word: "lag",
    text: "Start the load without a consumer and look at the group's lag. Start one consumer, and then a second: the partitions are shared anew.",
    ask: "What happens to the lag when a second consumer joins?", options: ["It stops for a moment and then falls faster", "Nothing"], right: 0,
    why: "The group agrees anew on who reads what. While it does, nobody reads; after that two read at once.",
    actions: () => html`<a class="button" href="#/groups?id=shoppers">see the group</a>` },
  { minutes: 20, title: "The leader is cut off", word: "term",
    text: "A cut link loses everything, as a broken cable does. The leader of orders-0 is cut off from both others.",
    ask: "What will the old leader do?", options: ["Go on alone", "Step down, since it hears no majority", "Stop its process"], right: 1,
    why: "Alone it could acknowledge nothing: two of three disks are needed. The others elect one of them in a higher term. Healed, the old one follows; seconds later the preferred leader gets it back, in one more term. Nothing is missing.",
    actions: () => html`<button type="button" onClick=${withLeader(isolate)}>cut the leader off</button>${RAFT}<button type="button" onClick=${healAll}>heal</button>` },
  { minutes: 30, title: "Everything is cut", word: "quorum",
    text: "All links are cut. Each broker is alone.",
    ask: "What can still be written?", options: ["Everything: each broker takes what it gets", "Nothing"], right: 1,
    why: "Without a majority nothing is acknowledged, and so nothing can be lost or be two different things. The page says that nobody leads; healed, it goes on.",
    actions: () => html`<button type="button" onClick=${cutAll}>cut all links</button>${RAFT}<button type="button" onClick=${healAll}>heal</button>` },
  { minutes: 40, title: "Kill, pause, a slow disk", word: "election",
    text: "A process that is killed is known at once to have ended. One that is paused keeps its connections and says nothing. A slow disk keeps its broker from acknowledging.",
    ask: "After which does it take longest until another leads?", options: ["kill −9", "pause"], right: 1,
    why: "The kernel tells the others that a killed process's connections ended, and nobody waits. Of a paused one they only hear nothing: an election time-out has to pass.",
    actions: () => html`<button type="button" onClick=${withLeader((id) => process(id, "kill"))}>kill the leader</button><button type="button" onClick=${withLeader((id) => process(id, "pause"))}>pause the leader</button>
      <button type="button" onClick=${withLeader((id) => slowDisk(id, 500))}>slow its disk</button>${RAFT}<button type="button" onClick=${healAll}>heal</button>` },
  { minutes: 60, title: "Follow one record", word: "commit",
    text: "Write one record and have the broker that leads its partition watch itself: each step is shown with its time, and with the file that does it.",
    ask: "When is it sent to the followers?", options: ["After this broker's own disk has it", "Before"], right: 1,
    why: "The followers' disks and the leader's own sync at the same time. What counts is that a majority has it, whichever they are.",
    actions: () => html`<a class="button" href=${`#/topics/${TOPIC}/produce?follow=1`}>follow one</a>` },
];

export function Lessons() {
  const load = store.dev?.load;
  if (!load) return null;
  return html`<div class="head"><h1>Lessons</h1></div>
    <p class="lead">An afternoon with Raft. Each lesson asks what will happen; choose first, then do it. Nothing here can break: the cluster is yours alone.</p>
    <div class="grid"><${Card} title="A load to look at" word="committed"><div class="figures">
        <${Figure} name="records/s asked for" value=${load.records_s} /><${Figure} name="consumers" word="group" value=${load.consumers} />
        <${Figure} name="acknowledged" value=${whole(load.acknowledged)} /><${Figure} name="read again" value=${whole(load.read)} />
        <${Figure} name="refused" value=${whole(load.refused)} /><${Figure} name="missing" value=${whole(load.missing)} cls=${load.missing ? "bad" : "good"} /></div>
      <div class="bar">${load.records_s ? html`<button type="button" onClick=${() => setLoad({ records_s: 0, consumers: 0 })}>Stop the load</button>`
        : html`<button class="main" type="button" onClick=${() => setLoad({ records_s: 50 })}>Start 50 records/s</button>`}
        <button type="button" disabled=${load.consumers >= 5} onClick=${() => setLoad({ consumers: load.consumers + 1 })}>Start a consumer</button>
        <button type="button" disabled=${load.consumers === 0} onClick=${() => setLoad({ consumers: load.consumers - 1 })}>Stop a consumer</button>
        <span class="dim small">Missing are records that were acknowledged and that a reader of everything did not find: it stays 0.</span></div><//>
      ${LESSONS.map((lesson) => html`<${Lesson} key=${lesson.title} ...${lesson} />`)}</div>`;
}

class Lesson extends Component {
  state = { chosen: null };

  render({ minutes, title, word, text, ask, options, right, why, actions }, { chosen }) {
    return html`<${Card} cls="w6" title=${title} word=${word} actions=${html`<span class="dim small">minute ${minutes}</span>`}>
      <p>${text}</p><fieldset><legend>${ask}</legend>${options.map((option, n) => html`<label><input type="radio" name=${title} checked=${chosen === n} onChange=${() => this.setState({ chosen: n })} />${option}</label>`)}</fieldset>
      ${chosen !== null && html`<p role="status"><b class=${chosen === right ? "good" : "warn"}>${chosen === right ? "Yes." : `No: ${options[right].toLowerCase()}.`}</b> ${why}</p>`}
      <div class="bar">${actions()}</div><//>`;
  }
}
