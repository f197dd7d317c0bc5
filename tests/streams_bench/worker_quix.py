"""The loads as a Quix Streams application: `python worker_quix.py LOAD BOOTSTRAP APP INPUT OUTPUT STATE`.

It runs in an environment of its own, where raftlog is not.
"""

import sys

from quixstreams import Application


def count(_, state):
    seen = state.get("n", 0) + 1
    state.set("n", seen)
    return seen


def main():
    load, bootstrap, name, source, target, state = sys.argv[1:]
    app = Application(
        broker_address=bootstrap,
        consumer_group=name,
        auto_offset_reset="earliest",
        commit_interval=1.0,
        state_dir=state,
        loglevel="WARNING",
    )
    kind = "str" if load == "words" else "bytes"
    records = app.dataframe(app.topic(source, key_deserializer="str", value_deserializer=kind))
    if load == "count":
        counted = records.apply(count, stateful=True)
    elif load == "windows":
        counted = records.tumbling_window(10_000, name="counts").count().final()
    else:
        words = records.apply(str.split, expand=True)
        words = words.group_by(
            lambda word: word,
            name="words",
            key_serializer="str",
            key_deserializer="str",
            value_serializer="str",
            value_deserializer="str",
        )
        counted = words.apply(count, stateful=True)
    counted.to_topic(app.topic(target, key_serializer="str", value_serializer="json"))
    app.run()


main()
