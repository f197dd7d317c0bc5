"""Statistics of a benchmark, on figures small enough to check by hand."""

from __future__ import annotations

import pytest

from raftlog.cli.bench_figures import P999_SAMPLES_MIN, OffsetCheck, Run, Spread, percentile, spread


def run(**fields: object) -> Run:
    whole = {"records": 1000, "payload_bytes": 2_000_000, "seconds": 4.0, "client_cpu_seconds": 1.0}
    return Run(**(whole | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fraction", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.505, 51), (0.99, 99), (0.999, 100), (1.0, 100)]
)
def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed(fraction: float, value: int) -> None:
    assert percentile(range(1, 101), fraction) == value


def test_percentiles_of_one_sample_are_that_sample() -> None:
    assert [percentile([7.0], fraction) for fraction in (0.0, 0.5, 0.99, 1.0)] == [7.0] * 4


def test_rates_are_of_payload_and_millions() -> None:
    assert run().figures() == {
        "mb_per_s": 0.5,
        "records_per_s": 250.0,
        "client_cpu_s": 1.0,
        "client_cpu_ms_per_mb": 500.0,
    }


def test_brokers_cpu_is_of_all_of_them() -> None:
    assert run(broker_cpu_seconds={10: 0.1, 11: 0.3}).figures()["broker_cpu_ms_per_mb"] == 200.0


def test_others_cpu_is_told_in_per_cent_where_it_was_seen() -> None:
    assert run(others_cpu_share=0.125).figures()["others_cpu_percent"] == 12.5
    assert "others_cpu_percent" not in run().figures()


def test_a_run_without_a_record_divides_by_nothing() -> None:
    figures = run(records=0, payload_bytes=0, seconds=0.0, broker_cpu_seconds={1: 0.5}).figures()
    assert figures == {"mb_per_s": 0.0, "records_per_s": 0.0, "client_cpu_s": 1.0}


def test_latencies_are_told_in_milliseconds_whatever_their_order() -> None:
    figures = run(latencies=[0.003, 0.001, 0.002]).figures()
    assert (figures["latency_p50_ms"], figures["latency_max_ms"]) == (2.0, 3.0)
    assert "latency_p999_ms" not in figures


def test_a_high_percentile_needs_samples() -> None:
    latencies = [0.5] * 21 + [0.001] * (P999_SAMPLES_MIN - 21)
    assert run(latencies=latencies).figures()["latency_p999_ms"] == 500.0
    assert run(latencies=[*latencies[1:], 0.001]).figures()["latency_p999_ms"] == 1.0
    assert "latency_p999_ms" not in run(latencies=latencies[1:]).figures()


def test_a_run_fails_by_its_errors() -> None:
    assert not run(errors={"missing": 0}).failed
    assert run(errors={"missing": 0, "_MSG_TIMED_OUT": 1}).failed


def test_the_spread_is_the_median_and_both_ends() -> None:
    runs = [run(seconds=seconds) for seconds in (1.0, 8.0, 2.0)]
    assert spread(runs)["mb_per_s"] == Spread(1.0, 0.25, 2.0)


def test_the_spread_has_only_what_every_run_has() -> None:
    assert "latency_p50_ms" not in spread([run(latencies=[0.1]), run()])
    assert spread([]) == {}


def test_all_offsets_once_and_in_order_are_well() -> None:
    check = OffsetCheck({0: 5, 1: 0}, {0: 8, 1: 2})
    assert check.expected == 5
    check.add([0, 0, 1], [5, 6, 0])
    check.add([], [])
    check.add([0], [7])
    assert check.expected == 1
    check.add([1], [1])
    assert (check.expected, check.records) == (0, 5)
    assert check.errors() == {"skipped": 0, "repeated": 0}


@pytest.mark.parametrize(
    ("offsets", "errors"),
    [
        ([0, 1, 3], {"skipped": 1, "repeated": 0}),
        ([2, 3], {"skipped": 2, "repeated": 0}),
        ([0, 1, 1, 2], {"skipped": 0, "repeated": 1}),
        ([0, 2, 1, 3], {"skipped": 1, "repeated": 1}),
        ([0, 1, 2, 3, 0, 1, 2, 3], {"skipped": 0, "repeated": 4}),
    ],
)
def test_an_offset_that_is_skipped_or_comes_again_is_counted(
    offsets: list[int], errors: dict[str, int]
) -> None:
    whole, single = OffsetCheck({0: 0}, {0: 4}), OffsetCheck({0: 0, 1: 0}, {0: 4, 1: 9})
    whole.add([0] * len(offsets), offsets)
    assert whole.errors() == errors
    for number, offset in enumerate(offsets):  # between records of another partition
        single.add([0, 1], [offset, number])
    assert single.errors() == errors


def test_a_gap_and_a_repeat_do_not_make_up_for_each_other() -> None:
    check = OffsetCheck({0: 0}, {0: 3})
    check.add([0, 0, 0], [0, 0, 2])
    assert check.records == 3
    assert check.errors() == {"skipped": 1, "repeated": 1}
