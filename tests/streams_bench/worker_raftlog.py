"""The loads as an app of raftlog.streams: LOAD BOOTSTRAP APP INPUT OUTPUT STATE."""

from __future__ import annotations

import os
import sys

from raftlog import streams as rs

SAID = "RAFTLOG_STREAMS_BENCH"
"""What the app is to be, for `raftlog streams run`, as which this goes on."""


def app_of(load: str, name: str, source: str, target: str) -> rs.App:
    app = rs.App(name, commit_ms=1000)
    match load:
        case "count":
            app.stream(source).count("counts").changes().to(target, value=rs.INT)
        case "windows":
            windowed = app.stream(source).window(rs.tumbling(size_s=10)).count("counts")
            windowed.final().to(target, value=rs.JSON)
        case "words":
            words = (
                app.stream(source, value=rs.TEXT).flat_map(str.split).key_by(lambda word: word, value=rs.TEXT)
            )
            words.count("counts").changes().to(target, value=rs.INT)
        case _:
            raise SystemExit(f"no load {load!r}")
    return app


if __name__ == "__main__":
    given = dict(zip(("load", "bootstrap", "name", "source", "target", "state"), sys.argv[1:], strict=True))
    run = ["streams", "run", f"{__file__}:app", "--bootstrap", given["bootstrap"], "--state", given["state"]]
    told = " ".join(given[each] for each in ("load", "name", "source", "target"))
    os.execve(sys.executable, [sys.executable, "-m", "raftlog", *run], os.environ | {SAID: told})
elif SAID in os.environ:
    app = app_of(*os.environ[SAID].split())
