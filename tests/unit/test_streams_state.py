"""State, commits, restoring and errors, by the driver. The numbers are those of the scenarios."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from raftlog import streams as rs
from raftlog.streams.database import Database
from raftlog.streams.folders import folder_of, place_of
from raftlog.streams.looking import copies
from raftlog.streams.outputs import Output
from raftlog.streams.plan import plan
from raftlog.streams.restoring import Changelog, begin
from raftlog.streams.standbys import reached_on_disk
from raftlog.streams.task import Task


def counting(**settings: Any) -> rs.App:
    app = rs.App("count", **settings)
    app.stream("in", value=rs.TEXT).count("counts").changes().to("out", value=rs.JSON)
    return app


STEPS = ["outputs", "changelog", "offsets", "committed", "flush"]


@pytest.mark.parametrize("lose_state", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_at_least_once_a_crash_anywhere_in_a_commit_loses_nothing(step: str, lose_state: bool):
    """3, 4."""
    with rs.driver(counting(), autocommit=False) as d:
        for _ in range(3):
            d.feed("in", "x", key="a")
        d.commit()
        d.feed("in", "x", key="a")
        d.feed("in", "x", key="b")
        d.commit(until=step)
        d.crash()
        d.restart(lose_state=lose_state)
        d.commit()
        again = {
            "outputs": (4, 1),
            "changelog": (4, 1),
            "offsets": (5, 2),
            "committed": (4, 1),
            "flush": (4, 1),
        }
        assert (d.store("counts")["a"], d.store("counts")["b"]) == again[step]
        last = {got.key: got.value for got in d.read("out")}
        assert last == {"a": again[step][0], "b": again[step][1]}


@pytest.mark.parametrize("lose_state", [False, True])
@pytest.mark.parametrize("step", ["offsets", "committed", "flush"])
def test_exactly_once_a_crash_anywhere_in_a_commit_has_each_effect_once(step: str, lose_state: bool):
    """1, 4."""
    with rs.driver(counting(guarantee="exactly_once"), autocommit=False) as d:
        for _ in range(3):
            d.feed("in", "x", key="a")
        d.commit()
        d.feed("in", "x", key="a")
        d.commit(until=step)
        d.crash()
        d.restart(lose_state=lose_state)
        d.commit()
        assert d.store("counts")["a"] == 4
        assert [got.value for got in d.read("out")] == [3, 4]


@pytest.mark.parametrize("guarantee", ["exactly_once", "at_least_once"])
def test_changes_beyond_their_bound_are_committed_early(guarantee: str) -> None:
    """8: as they come, and also when a backlog is read in one go."""
    app = rs.App("count", guarantee=guarantee)  # type: ignore[arg-type]
    app.stream("in", value=rs.TEXT).count("counts").changes().to("out", value=rs.JSON)
    with rs.driver(app, autocommit=False, changes_max=50) as d:
        for number in range(120):
            d.feed("in", "x", key=f"k{number}")
            assert d.tasks[0].changed < 50
        assert d.committed["in", 0][0] == 100
        d.crash()
        for number in range(300):
            d.feed("in", "x", key=f"k{number}")
        begins = len(d.topics["count-counts-changelog"].logs[0])
        d.restart()
        assert d.tasks[0].changed < 50 and d.committed["in", 0][0] == 400
        assert len(d.topics["count-counts-changelog"].logs[0]) - begins == 300
        d.commit()
        assert d.store("counts").items() == {f"k{n}": 2 if n < 120 else 1 for n in range(300)}


@pytest.mark.parametrize("cut", range(60))
def test_a_power_cut_leaves_rows_and_position_that_agree(tmp_path, cut: int):
    """5, 6: the write-ahead file of SQLite is cut anywhere; what is left is one of the flushes, whole."""
    path = tmp_path / "store.db"
    database = Database(str(path), ["s"])
    for i in range(1, 6):
        database.write({"s": {b"k%d" % k: b"%d" % i for k in range(i * 5)}}, {}, {"at": i})
    wal = (tmp_path / "store.db-wal").read_bytes()
    main = path.read_bytes()
    database.close()
    other = tmp_path / "cut"
    other.mkdir()
    (other / "store.db").write_bytes(main)
    (other / "store.db-wal").write_bytes(wal[: len(wal) * cut // 59])
    left = Database(str(other / "store.db"), ["s"])
    at = left.position().get("at", 0)
    assert dict(left.scan("s")) == {b"k%d" % k: b"%d" % at for k in range(at * 5)}
    left.close()


def test_a_damaged_file_is_told(tmp_path):
    """27."""
    path = tmp_path / "store.db"
    database = Database(str(path), ["s"])
    database.write({"s": {b"%06d" % k: b"v" * 100 for k in range(2000)}}, {}, {"at": 1})
    database.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 9] = bytes(4096 * 6)
    path.write_bytes(data)
    with pytest.raises(rs.StateDamaged, match=r"store\.db"):
        Database(str(path), ["s"])


def test_a_file_of_a_newer_format_or_of_another_app_is_refused(tmp_path):
    """28."""
    path = str(tmp_path / "store.db")
    database = Database(path, [])
    database.write({}, {}, {"at": 1})
    database._sql.execute("update _position set json = ?", (json.dumps({"version": 2}),))
    with pytest.raises(rs.StateError, match="format 2"):
        database.position()
    database.close()
    with rs.driver(counting()) as d:
        d.feed("in", "x", key="a")
        d.crash()
        d._databases[0, 0].write({}, {}, {**d._databases[0, 0].position(), "partition": 3})
        with pytest.raises(rs.StateError, match="partition"):
            d.restart()


def test_a_changelog_that_holds_more_offsets_than_records_is_restored():
    """21, 22: the position counts, not the last record seen."""
    with rs.driver(counting()) as d:
        d.feed("in", "x", key="a")
        d.feed("in", "x", key="b")
        log = d.topics["count-counts-changelog"]
        log.trim(0, 1)
        d.crash()
        d.restart(lose_state=True)
        assert d.store("counts").items() == {"b": 1}
        log.trim(0, 2)
        d.crash()
        d.restart(lose_state=True)
        assert d.store("counts").items() == {}


def test_a_changelog_cut_off_behind_the_local_state_makes_it_anew():
    """23."""
    with rs.driver(counting(), flush=False) as d:
        d.feed("in", "x", key="a")
        d.flush()
        for _ in range(3):
            d.feed("in", "x", key="b")
        d.topics["count-counts-changelog"].trim(0, 3)
        d.crash()
        d.restart()
        assert d.store("counts").items() == {"b": 3}, "a's row may have been deleted meanwhile"


def test_a_changelog_made_anew_is_an_error_or_a_new_begin():
    """24."""
    for rebuild in (False, True):
        app = counting()
        with rs.driver(app, on_changelog_lost="rebuild" if rebuild else "fail") as d:
            d.feed("in", "x", key="a")
            d.feed("in", "x", key="a")
            d.crash()
            log = d.topics["count-counts-changelog"]
            log.topic_id = "another"
            log.logs = [[]]
            if rebuild:
                d.restart()
                assert d.store("counts").items() == {}
            else:
                with pytest.raises(rs.StateError, match=r"made anew.*offset 2.*ends at 0"):
                    d.restart()


def windowed() -> rs.App:
    app = rs.App("minutes")
    app.stream("in", value=rs.TEXT).window(rs.tumbling(size_s=60)).count("counts").final().to(
        "final", value=rs.JSON
    )
    return app


def made_anew(d: Any, *topics: str) -> None:
    """Topics are deleted, with what a group has committed in them, and there are others of their names."""
    for topic in topics:
        log = d.topics[topic]
        log.topic_id, log.logs = f"{log.topic_id} anew", [[] for _ in log.logs]
        for key in [key for key in d.committed if key[0] == topic]:
            del d.committed[key]
        for key in [key for key in d._read if key[0] == topic]:
            del d._read[key]


def test_state_that_is_begun_anew_has_no_times_and_no_positions_of_before():
    """24: the disk's watermark would make all records late, and its positions would leave some out."""
    with rs.driver(windowed(), on_changelog_lost="rebuild") as d:
        for at in (1_000, 2_000, 500_000):
            d.feed("in", "x", key="a", at=at)
        d.crash()
        made_anew(d, "in", "minutes-counts-changelog", "final")
        d.restart()
        for at in (1_000, 61_000, 121_000):
            d.feed("in", "x", key="a", at=at)
        assert [got.value["start"] for got in d.read("final")] == [0, 60_000]
        assert not d.dropped
        d.crash()
        d.restart()
        assert d.store("counts").items() == {("a", 120_000): 1}


def test_state_that_is_begun_anew_keeps_the_time_that_its_group_has_committed():
    """24: a window that was told of as final is not told of again."""
    with rs.driver(windowed(), on_changelog_lost="rebuild") as d:
        d.feed("in", "x", key="a", at=1_000)
        d.feed("in", "x", key="a", at=70_000)
        d.crash()
        made_anew(d, "minutes-counts-changelog")
        d.restart()
        d.feed("in", "x", key="a", at=2_000)
        assert d.dropped == {"late for its window": 1}
        assert d.tasks[0].inputs["in"].position == 3


def test_rows_that_a_new_begin_has_removed_are_not_taken_for_those_of_a_changelog_that_has_grown():
    """24: the worker ends between the two."""
    with rs.driver(counting(), on_changelog_lost="rebuild") as d:
        for _ in range(3):
            d.feed("in", "x", key="a")
        d.crash()
        log = d.topics["count-counts-changelog"]
        del log.logs[0][1:]  # it has lost its end
        task = Task(d.plan, d.plan.parts[0], 0, d._databases[0, 0], writers={}, now_ms=0)
        (restore,) = task.restores({})
        task.begin(restore.store, begin(restore, Changelog(log.topic_id, 0, 1), "rebuild"))
        assert d._databases[0, 0].get("counts", b"a") is None
        d._on_changelog_lost = "fail"
        for _ in range(3):
            log.append(Output("count-counts-changelog", b"b", b"7", 0, 0), 0)
        d.restart()
        assert d.store("counts").items() == {"a": 1, "b": 7}


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (
            lambda stream: stream.key_by(lambda value: value["n"]).map(lambda value: value).count("c"),
            r"step 3 \(repartition steps-c-repartition\): text does not take the key 5: int given where "
            r"text is expected: name a serde, such as rs.INT. Its serde is named by .key_by\(…, key=…\)",
        ),
        (
            lambda stream: stream.key_by(lambda value: "k", value=rs.TEXT).count("c"),
            r"step 2 \(repartition steps-c-repartition\): text does not take the value {'n': 5}: .*"
            r" named by .key_by\(…, value=…\), step 1",
        ),
        (
            lambda stream: stream.to("out", value=rs.TEXT),
            r"step 1 \(sink out\): text does not take the value {'n': 5}.* named by .to\('out', value=…\)",
        ),
        (
            lambda stream: stream.map(lambda value: {1, 2}).through("x"),
            r"step 2 \(repartition steps-x-repartition\): json does not take the value {1, 2}: .*",
        ),
    ],
)
def test_what_cannot_be_written_is_told_with_its_step(build: Any, said: str) -> None:
    app = rs.App("steps")
    build(app.stream("in", value=rs.JSON))
    with rs.driver(app) as d, pytest.raises(rs.RecordFailed, match=said):
        d.feed("in", {"n": 5}, key="a")


@pytest.mark.parametrize(
    ("handle", "name", "said"),
    [
        (lambda s: s.count("c"), "to", r"'Table' object has no attribute 'to': .*\.changes\(\) has it"),
        (lambda s: s.window(rs.session(gap_s=1)), "to", r"'Windowed' .* 'to': .*\.count\(NAME\)"),
        (lambda s: s.window(rs.session(gap_s=1)).count("c"), "map", r"'Results' .* 'map': .*\.final\(\)"),
        (lambda s: s, "changes", r"'Stream' .* 'changes': this is a stream of records already"),
        (lambda s: s.count("c"), "frobnicate", r"'Table' object has no attribute 'frobnicate'$"),
    ],
)
def test_a_method_that_another_handle_has_is_told_where_it_is(handle: Any, name: str, said: str) -> None:
    with pytest.raises(AttributeError, match=said):
        getattr(handle(rs.App("handles").stream("in")), name)


def poisoned(**settings: Any) -> rs.App:
    app = rs.App("poison", **settings)

    def divide(value: int) -> float:
        return 12 / value

    stream = app.stream("in", value=rs.JSON)
    counts = stream.count("counts")
    stream.map(divide).to("out", value=rs.JSON)
    counts.changes().to("counted", value=rs.JSON)
    return app


def test_a_poison_record_ends_the_app_after_what_was_before():
    """42."""
    with rs.driver(poisoned()) as d:
        d.feed("in", 3, key="a")
        for _ in range(2):
            with pytest.raises(rs.RecordFailed, match=r"in-0 at offset 1: ZeroDivisionError.*dlq=") as failed:
                d.feed("in", 0, key="a") if d.topics["in"].end(0) == 1 else d.settle()
            assert isinstance(failed.value.__cause__, ZeroDivisionError)
            d.commit()
            assert d.store("counts")["a"] == 1, "what the record had changed before it failed is taken back"
            d.crash()
            with pytest.raises(rs.RecordFailed):
                d.restart()
        assert [got.value for got in d.read("out")] == [4.0]


def test_a_poison_record_goes_to_the_dlq_as_it_came():
    """43."""
    with rs.driver(poisoned(dlq="dead", guarantee="exactly_once")) as d:
        for value in (3, 0, 4):
            d.feed("in", value, key="a")
        d.feed("in", b"no json", key="b")
        assert [got.value for got in d.read("out")] == [4.0, 3.0]
        first, second = d.read("dead")
        assert (first.key, first.value, second.value) == (b"a", b"0", b"no json")
        told = dict(first.headers)
        assert told["__streams.errors.offset"] == b"1"
        assert told["__streams.errors.exception"] == b"ZeroDivisionError"
        assert b"divide" in told["__streams.errors.stacktrace"]
        assert d.store("counts").items() == {"a": 2}


def test_skipped_records_are_counted():
    with rs.driver(poisoned(on_error="skip")) as d:
        for value in (3, 0, 4):
            d.feed("in", value, key="a")
        assert [got.value for got in d.read("out")] == [4.0, 3.0]
        assert d.dropped["failed"] == 1


def test_a_value_of_an_old_schema_names_store_and_key():
    """44."""
    strict = rs.Serde("strict", rs.JSON.encode, lambda data: {"v2": json.loads(data)["v2"]})
    app = rs.App("schema")
    kept = app.store("kept", value=strict)

    @app.stream("in", value=rs.JSON).process(kept)
    def look(record, state):
        if record.value is not None and state.get(record.key) is None:
            state.set(record.key, record.value)
        yield state.get(record.key)

    look.to("out", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("in", {"v1": 1}, key="a")
        d.crash()
        d.restart(lose_state=True)
        with pytest.raises(rs.RecordFailed, match=r"store 'kept'.*'a'.*strict"):
            d.feed("in", {"v2": 1}, key="a")


def test_a_table_row_that_is_gone_is_no_partner():
    """45, 46: what the table has when the app starts is read before the first record of the stream."""
    app = rs.App("enrich", dlq="dead")
    customers = app.table("customers", name="customers", value=rs.JSON)
    payments = app.stream("payments", value=rs.JSON)
    payments.join(customers, lambda p, c: [p, c], missing="dlq").to("out", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("customers", "Ann", key="1", at=5_000)
        d.feed("payments", 10, key="1", at=1_000)
        d.feed("customers", None, key="1", at=6_000)
        d.feed("payments", 20, key="1", at=7_000)
        assert [got.value for got in d.read("out")] == [[10, "Ann"]]
        assert [got.value for got in d.read("dead")] == [b"20"]
        d.crash()
        d.topics["customers"].append(_row(b'"Bob"'), 0)
        d.topics["payments"].append(_payment(b"30"), 0)
        d.restart(lose_state=True)
        assert [got.value for got in d.read("out")] == [[30, "Bob"]]


def _row(value: bytes):
    from raftlog.streams.outputs import Output

    return Output("customers", b"1", value, 9_000)


def _payment(value: bytes):
    from raftlog.streams.outputs import Output

    return Output("payments", b"1", value, 8_000)


def test_a_record_without_a_key_is_not_counted():
    """47."""
    with rs.driver(counting()) as d:
        d.feed("in", "x")
        assert d.read("out") == [] and d.dropped["an aggregate's record has no key"] == 1


def test_inputs_that_do_not_go_together_are_refused_with_the_remedy():
    """39."""
    app = rs.App("uneven")
    table = app.table("six", name="six")
    app.stream("four").join(table, lambda a, b: a).to("out")
    with (
        pytest.raises(rs.TopologyError, match=r"(six has 6|four has 4).*--partitions 6"),
        rs.driver(app, partitions={"six": 6, "four": 4}),
    ):
        pass


def test_state_that_is_changed_in_place_is_found():
    app = rs.App("inplace")
    seen = app.store("seen")

    @app.stream("in", value=rs.JSON).process(seen)
    def note(record, state):
        found = state.get("all", [])
        found.append(record.value)
        if len(found) == 1:
            state.set("all", found)
        return ()

    with rs.driver(app) as d:
        d.feed("in", 1, key="a")
        with pytest.raises(rs.StreamsError, match="changed in place"):
            d.feed("in", 2, key="a")


def test_a_store_gives_ranges_with_what_is_not_flushed_yet():
    app = rs.App("ranges")
    kept = app.store("kept")

    @app.stream("in", value=rs.JSON).process(kept)
    def look(record, state):
        if record.value == "gone":
            state.delete(record.key)
        elif record.value == "ask":
            yield [key for key, _ in state.range("b", "d")] + [key for key, _ in state.prefix("ab")]
        else:
            state.set(record.key, record.value)

    look.to("out", value=rs.JSON)
    with rs.driver(app, flush=False) as d:
        for key in ("a", "ab", "abc", "b", "c", "d"):
            d.feed("in", 1, key=key)
        d.flush()
        d.feed("in", "gone", key="b")
        d.feed("in", 1, key="ba")
        d.feed("in", "ask", key="x")
        assert [got.value for got in d.read("out")] == [["ba", "c", "ab", "abc"]]


def test_fields_make_one_object_of_several_aggregates():
    app = rs.App("sensors")
    readings = app.stream("readings", value=rs.JSON, timestamp=lambda r: r["ts"], max_ahead_s=300)
    averages = readings.window(rs.hopping(size_s=300, every_s=60)).aggregate(
        "averages", rs.fields(n=rs.count(), mean=rs.mean("celsius"), high=rs.max("celsius"))
    )
    averages.final().to("averages", value=rs.JSON)
    with rs.driver(app) as d:
        d.now_ms = 1_000_000
        for ts, celsius in ((0, 10), (100_000, 20), (299_999, 30), (600_000, 0)):
            d.feed("readings", {"ts": ts, "celsius": celsius}, key="s")
        first = d.read("averages")[0]
        assert first.value == {"start": 0, "end": 300_000, "n": 3, "mean": 20.0, "high": 30}
        d.feed("readings", {"ts": 2_000_000, "celsius": 99}, key="s")
        assert d.dropped["ahead of the clock"] == 1


def test_shapes_split_merge_and_describe():
    app = rs.App("shapes")
    ways = app.stream("in", value=rs.JSON).split(even=lambda v: v % 2 == 0, big=lambda v: v > 10)
    ways["even"].merge(ways["big"]).map(lambda v: v * 10).filter(lambda key, value: value < 1000).to("out")
    ways["rest"].to("rest")
    with rs.driver(app) as d:
        for value in (1, 2, 13, 100):
            d.feed("in", value)
        assert sorted(got.value for got in d.read("out")) == [20, 130]
        assert [got.value for got in d.read("rest")] == [1]
    assert "merge" in rs.plan(app).describe()
    assert "-->|even|" in rs.plan(app).mermaid()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda app: app.stream("in").count("a/b"), "store name 'a/b'"),
        (lambda app: (app.stream("in"), app.stream("in")), "read twice"),
        (lambda app: app.stream("in").map(lambda a, b: a), "takes a, b"),
        (lambda app: app.stream("in").join(app.table("t", name="t"), max, missing="dlq"), "needs a topic"),
        (lambda app: app.stream("in").join(app.stream("b"), max), "name= and within_s="),
        (lambda app: (app.store("s"), app.store("s")), "there already"),
    ],
)
def test_mistakes_in_topologies_are_told_where_they_are_made(wrong, told: str):
    with pytest.raises(rs.TopologyError, match=told):
        wrong(rs.App("app"))


def test_an_app_that_reads_nothing_or_has_no_good_name_is_refused():
    with pytest.raises(rs.TopologyError, match="reads nothing"):
        rs.plan(rs.App("empty"))
    with pytest.raises(rs.TopologyError, match="app name 'a b'"):
        rs.App("a b")


def test_a_full_disk_loses_nothing_and_is_gone_on_from_when_there_is_room():
    """29."""
    app = rs.App("full")
    app.stream("in", value=rs.TEXT).to_table("kept")
    with rs.driver(app, flush=False) as d:
        d.feed("in", "first", key="k")
        d.flush()
        sql = d._databases[0, 0]._sql
        pages = sql.execute("pragma page_count").fetchone()[0]
        sql.execute(f"pragma max_page_count = {pages}")
        for number in range(200):
            d.feed("in", "x" * 1000, key=f"k{number}")
        with pytest.raises(OSError, match="full"):
            d.flush()
        assert d._databases[0, 0].position()["inputs"]["in"]["at"] == 1
        sql.execute("pragma max_page_count = 1000000")
        d.crash()
        d.restart()
        assert len(d.store("kept")) == 201
        d.flush()
        assert d._databases[0, 0].position()["inputs"]["in"]["at"] == 201


@pytest.mark.parametrize(
    "name", ["0", "0-", "-1", "0-1-2", "00-1", "0-01", "+0-1", "\u00b2-1", "\u0660-1", "0-1.bad", "0-1\n"]
)
def test_only_what_a_task_s_folder_is_called_is_read_back(tmp_path: Path, name: str) -> None:
    """Whoever looks for copies, and a worker that begins, go by the same rule."""
    found = plan(counting())
    assert place_of(name) is None
    for each in ("0-1", name):
        folder = tmp_path / "count" / "worker" / each
        folder.mkdir(parents=True)
        database = Database(str(folder / "store.db"), ["counts"])
        position = {
            "fingerprint": found.parts[0].fingerprint,
            "inputs": {"in": {"at": 7}},
            "changelogs": {"counts": ["id", 5]},
        }
        database.write({}, {}, position)
        database.close()
    assert reached_on_disk(found, str(tmp_path / "count" / "worker")) == {(0, 1): 5}
    ((copy,), older) = copies(str(tmp_path), found.app, found.parts[0])
    assert (copy.partition, copy.read, older) == (1, 7, 0)


@pytest.mark.parametrize("place", [(0, 0), (0, 63), (12, 100)])
def test_a_task_s_folder_says_which_task_it_is_of(place: tuple[int, int]) -> None:
    assert place_of(os.path.basename(folder_of("state", place))) == place
