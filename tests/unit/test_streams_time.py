"""Windows, watermarks and lateness, by the driver. The numbers are those of the scenarios."""

from __future__ import annotations

import random

import pytest

from raftlog import streams as rs


def windowed(grace_s: float = 10, **settings: object) -> rs.App:
    app = rs.App("timed", **settings)  # type: ignore[arg-type]
    counts = app.stream("in").window(rs.tumbling(size_s=60, grace_s=grace_s)).count("counts")
    counts.final().to("final", value=rs.JSON)
    counts.late().to("late")
    counts.changes().to("changes", value=rs.JSON)
    return app


def finals(d: rs.Driver) -> list[tuple[str, int, int]]:
    return [(got.key, got.value["start"], got.value["count"]) for got in d.read("final")]


def test_a_late_record_counts_within_the_grace_and_not_after():
    """30."""
    with rs.driver(windowed()) as d:
        d.feed("in", b"", key="a", at=59_999)
        d.feed("in", b"", key="b", at=69_999)
        d.feed("in", b"", key="a", at=1)  # its window is over, its grace is not
        assert finals(d) == []
        d.feed("in", b"", key="b", at=70_000)
        assert finals(d) == [("a", 0, 2)]
        d.feed("in", b"late", key="a", at=59_999)
        assert finals(d) == []
        assert [got.value for got in d.read("late")] == [b"late"]
        assert d.dropped["late for its window"] == 1
        d.feed("in", b"", key="b", at=500_000)
        assert finals(d) == [("b", 60_000, 2)]


def test_no_window_closes_before_the_slowest_input_is_there():
    """31, with a repartition topic between: both writers' watermarks are needed."""
    app = rs.App("slow")
    app.stream("in", value=rs.TEXT).key_by(lambda value: value).window(rs.tumbling(size_s=60)).count(
        "counts"
    ).final().to("final", value=rs.JSON)
    with rs.driver(app, partitions=2) as d:
        d.feed("in", "a", at=1_000, partition=0)
        d.feed("in", "a", at=500_000, partition=0)
        assert finals(d) == []
        d.feed("in", "a", at=2_000, partition=1)
        assert finals(d) == []
        d.feed("in", "a", at=61_000, partition=1)
        assert finals(d) == [("a", 0, 2)]


def test_a_silent_input_does_not_hold_windows_up():
    """32."""
    app = rs.App("silent")
    app.stream("in", value=rs.TEXT).key_by(lambda value: value).window(rs.tumbling(size_s=60)).count(
        "counts"
    ).final().to("final", value=rs.JSON)
    with rs.driver(app, partitions=2) as d:
        d.feed("in", "a", at=1_000, partition=0)
        d.advance(29)
        d.feed("in", "a", at=61_000, partition=0)
        assert finals(d) == []
        d.advance(28.999)  # the silent one is where the wall clock was 30 s ago
        assert finals(d) == []
        d.advance(0.001)
        assert finals(d) == [("a", 0, 1)]
        d.feed("in", "a", at=3_000, partition=1)
        assert d.dropped["late for its window"] == 1


def test_without_idle_ms_only_records_move_the_time():
    with rs.driver(windowed(idle_ms=None)) as d:
        d.feed("in", b"", key="a", at=1)
        d.advance(1_000_000)
        assert finals(d) == []
    with rs.driver(windowed()) as d:
        d.feed("in", b"", key="a", at=1)
        d.advance(100)
        assert finals(d) == [("a", 0, 1)]


def test_a_replay_gives_the_same_final_results():
    """33: whatever comes first of what partitions have."""
    rng = random.Random(5)
    fed = [(rng.choice("abc"), 1_000 * i + rng.randrange(5_000), rng.randrange(3)) for i in range(200)]

    def play(seed: int) -> dict[tuple[str, int], int]:
        app = rs.App("again")
        app.stream("in").key_by(lambda key, value: key).window(rs.tumbling(size_s=20, grace_s=5)).count(
            "counts"
        ).final().to("final", value=rs.JSON)
        chance = random.Random(seed)
        with rs.driver(app, partitions=3) as d:
            queues = [[each for each in fed if each[2] == partition] for partition in range(3)]
            while any(queues):
                key, at, partition = chance.choice([queue for queue in queues if queue]).pop(0)
                d.feed("in", b"", key=key, at=at, partition=partition)
            d.advance(10_000)
            return {(key, start): count for key, start, count in finals(d)}

    first = play(1)
    assert sum(first.values()) == 200
    assert all(play(seed) == first for seed in range(2, 6))


def test_a_record_from_the_future_closes_nothing():
    """34."""
    with rs.driver(windowed()) as d:
        d.feed("in", b"", key="a", at=1_000)
        d.feed("in", b"", key="a", at=1_001)
        d.now_ms = 2_000
        d._append(_output(4_102_444_800_000))
        d.settle()
        assert finals(d) == []
        assert d.dropped["ahead of the clock"] == 1


def test_what_a_stream_takes_ahead_of_the_clock_is_taken_behind_a_repartition_too():
    app = rs.App("ahead")
    stream = app.stream("in", value=rs.JSON, timestamp=lambda value: value["t"], max_ahead_s=10 * 86_400)
    stream.key_by(lambda value: value["k"]).count("counts")
    with rs.driver(app) as d:
        d.feed("in", {"k": "x", "t": 86_400_000}, at=0)
        assert d.store("counts").items() == {"x": 1} and not d.dropped


def test_a_table_s_row_from_the_future_is_kept_and_moves_no_time():
    """It is there after a restart, which reads the topic: so it must be there before."""
    app = rs.App("rows")
    table = app.table("rows", name="rows", value=rs.TEXT)
    table.changes().window(rs.tumbling(size_s=60)).count("changes").final().to("final", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("rows", "then", key="a", at=1_000)
        d._append(_output(4_102_444_800_000, "rows"))
        d.settle()
        assert d.store("rows").items() == {"a": ""} and not d.dropped
        assert d.read("final") == [] and d.tasks[0].watermark == 1_000
        d.crash()
        d.restart(lose_state=True)
        assert d.store("rows").items() == {"a": ""}


def _output(at: int, topic: str = "in"):
    from raftlog.streams.outputs import Output

    return Output(topic, b"a", b"", at, 0)


@pytest.mark.parametrize("lose_state", [False, True])
def test_a_restart_before_its_end_closes_a_window_once_with_all_its_records(lose_state: bool):
    """35."""
    with rs.driver(windowed()) as d:
        d.feed("in", b"", key="a", at=1_000)
        d.feed("in", b"", key="a", at=69_000)
        d.crash()
        d.restart(lose_state=lose_state)
        d.feed("in", b"", key="a", at=2_000)
        d.feed("in", b"", key="a", at=70_000)
        assert finals(d) == [("a", 0, 2)]
        d.crash()
        d.restart(lose_state=lose_state)
        d.feed("in", b"", key="a", at=71_000)
        assert finals(d) == []
        d.feed("in", b"", key="a", at=200_000)
        assert finals(d) == [("a", 60_000, 3)]


def test_one_lagging_writer_has_no_late_records_behind_a_repartition():
    """36: its own watermark goes along, so that readers wait for it."""
    app = rs.App("lag")
    app.stream("in").key_by(lambda key, value: key).window(rs.tumbling(size_s=60)).count("counts").final().to(
        "final", value=rs.JSON
    )
    with rs.driver(app, partitions=2) as d:
        d.feed("in", b"", key="a", at=1, partition=1)
        for minute in range(1, 60):
            d.feed("in", b"", key="a", at=60_000 * minute, partition=0)
        assert finals(d) == []
        for minute in range(1, 60):
            d.feed("in", b"", key="a", at=60_000 * minute + 1, partition=1)
        assert d.dropped["late for its window"] == 0
        assert [count for _, _, count in finals(d)] == [1] + [2] * 58


def test_a_hopping_window_has_its_start_and_not_its_end():
    """38."""
    windows = rs.hopping(size_s=60, every_s=20)
    assert list(windows.starts(0)) == [0]
    assert list(windows.starts(60_000)) == [20_000, 40_000, 60_000]
    assert list(windows.starts(59_999)) == [0, 20_000, 40_000]
    uneven = rs.hopping(size_s=50, every_s=20)
    assert list(uneven.starts(60_000)) == [20_000, 40_000, 60_000]
    assert list(uneven.starts(69_999)) == [20_000, 40_000, 60_000]
    assert list(uneven.starts(70_000)) == [40_000, 60_000]


def test_windows_of_windows_are_not_late():
    """What a window gives at its end is as old as that: the next one's time is behind by as much."""
    app = rs.App("nested")
    minutes = app.stream("in").window(rs.tumbling(size_s=60, grace_s=10)).count("minutes").final()
    hours = minutes.window(rs.tumbling(size_s=3600)).aggregate("hours", rs.sum("count"))
    hours.final().to("final", value=rs.JSON)
    with rs.driver(app) as d:
        for minute in range(120):
            d.feed("in", b"", key="a", at=60_000 * minute)
        d.feed("in", b"", key="a", at=10**8)
        assert [(got.value["start"], got.value["value"]) for got in d.read("final")] == [
            (0, 60),
            (3_600_000, 60),
        ]
        assert d.dropped["late for its window"] == 0


def test_sessions_that_meet_become_one_and_say_so():
    """37."""
    app = rs.App("bursts")
    bursts = app.stream("in").window(rs.session(gap_s=10, grace_s=10)).count("bursts")
    bursts.changes().to("changes", value=rs.JSON)
    bursts.final().to("final", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("in", b"", key="a", at=1_000)
        d.feed("in", b"", key="a", at=20_000)
        assert [got.value for got in d.read("changes")] == [
            {"start": 1_000, "end": 1_000, "count": 1},
            {"start": 20_000, "end": 20_000, "count": 1},
        ]
        d.crash()
        d.restart(lose_state=True)
        d.feed("in", b"", key="a", at=10_500)
        assert [got.value for got in d.read("changes")] == [
            {"start": 1_000, "end": 1_000, "gone": True},
            {"start": 20_000, "end": 20_000, "gone": True},
            {"start": 1_000, "end": 20_000, "count": 3},
        ]
        d.crash()
        d.restart(lose_state=True)
        d.feed("in", b"", key="b", at=40_000)
        assert [(got.key, got.value) for got in d.read("final")] == [
            ("a", {"start": 1_000, "end": 20_000, "count": 3})
        ]


def bursts() -> rs.App:
    app = rs.App("bursts", dlq="dead")
    records = app.stream("in")
    found = records.window(rs.session(gap_s=10)).count("bursts")
    found.changes().to("changes", value=rs.JSON)
    found.final().to("final", value=rs.JSON)
    records.map(lambda value: 1 // len(value)).to("ones", value=rs.JSON)
    return app


def told_of(d: rs.Driver, key: str = "a") -> list[tuple[int, int, int | None]]:
    """Start, end and count of each session that changed; None is one that is gone."""
    found = [got.value for got in d.read("changes") if got.key == key]
    return [(told["start"], told["end"], None if "gone" in told else told["count"]) for told in found]


def test_a_session_that_is_over_before_the_commit_is_among_the_changes():
    with rs.driver(bursts(), autocommit=False) as d:
        d.feed("in", b"x", key="a", at=1_000)
        d.commit()
        d.feed("in", b"x", key="a", at=2_000)
        d.feed("in", b"x", key="z", at=100_000)
        d.commit()
        assert told_of(d) == [(1_000, 1_000, 1), (1_000, 2_000, 2), (1_000, 1_000, None)]
        assert [got.value["count"] for got in d.read("final")] == [2]
        d.commit()
        assert told_of(d) == []


def test_a_session_that_was_told_of_and_is_over_is_not_gone():
    """It has grown on the inside only: it is the one that was told of."""
    with rs.driver(bursts(), autocommit=False) as d:
        for at in (1_000, 5_000):
            d.feed("in", b"x", key="a", at=at)
        d.commit()
        d.feed("in", b"x", key="a", at=3_000)
        d.feed("in", b"x", key="z", at=100_000)
        d.commit()
        assert told_of(d) == [(1_000, 5_000, 2), (1_000, 5_000, 3)]


def test_a_record_that_failed_takes_nothing_from_what_is_told_of_sessions():
    with rs.driver(bursts(), autocommit=False) as d:
        for at in (1_000, 5_000):
            d.feed("in", b"x", key="a", at=at)
        d.commit()
        d.feed("in", b"", key="a", at=3_000)  # to the DLQ
        d.feed("in", b"x", key="a", at=6_000)
        d.commit()
        assert len(d.read("dead")) == 1
        assert told_of(d) == [(1_000, 5_000, 2), (1_000, 5_000, None), (1_000, 6_000, 3)]


def test_streams_join_within_their_time():
    app = rs.App("joined")
    left, right = app.stream("left", value=rs.TEXT), app.stream("right", value=rs.TEXT)
    left.join(right, lambda a, b: [a, b], name="pairs", within_s=10, how="outer").to("out", value=rs.JSON)
    with rs.driver(app) as d:
        d.feed("left", "l1", key="k", at=1_000)
        d.feed("right", "r1", key="k", at=11_000)
        d.feed("right", "r2", key="k", at=11_001)
        d.feed("left", "l2", key="other", at=12_000)
        assert [got.value for got in d.read("out")] == [["l1", "r1"]]
        d.advance(100)
        assert sorted(got.value for got in d.read("out") if got.value[0]) == [["l2", None]]
        d.feed("left", "l3", key="k", at=11_500)
        assert d.read("out") == [] and d.dropped["late for its join"] == 1


def test_mistakes_in_windows_are_told_at_once():
    with pytest.raises(rs.TopologyError, match="no window"):
        rs.hopping(size_s=10, every_s=20)
    with pytest.raises(rs.TopologyError, match="6000 windows"):
        rs.hopping(size_s=60, every_s=0.01)
    with pytest.raises(rs.TopologyError, match=r"window\(10\).*tumbling"):
        rs.App("a").stream("in").window(10)  # type: ignore[arg-type]
    with pytest.raises(rs.TopologyError, match="merge"):
        rs.App("a").stream("in").window(rs.session(gap_s=1)).aggregate("s", rs.Aggregate(0, lambda a, b: a))
