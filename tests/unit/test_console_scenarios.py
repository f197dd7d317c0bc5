"""Each of the 30 scenarios of operating has its tests, in this table: one that is taken away is missed."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]

PROBES: Final = "http/test_http_probes.py::test_1_2_and_3_probes_say_what_a_cluster_waits_for"
SCREENS: Final = "console/test_console_screens.py"
LOST: Final = "console/test_console_lost.py"
TEXT: Final = f"{SCREENS}::test_7_and_8_what_others_wrote_is_text_on_every_screen"
DEV: Final = "console/test_console_dev.py::test_25_and_26_a_leader_is_cut_off_healed_and_led_home"
API: Final = "http/test_http_api.py"
ACCESS: Final = "http/test_http_access.py"
LIMITS: Final = "http/test_http_limits.py"
REGISTRY: Final = "registry/test_registry_"

TESTS: Final = {
    1: (PROBES,),
    2: (PROBES, f"{LOST}::test_2_the_console_of_a_broker_without_a_majority_loads_and_says_so"),
    3: (PROBES, "http/test_http_streams.py::test_3_a_broker_that_stops_says_so_to_every_stream_and_ends"),
    4: (
        "unit/test_http_exposition.py::test_4_others_have_their_turn_while_80000_samples_are_written",
        "http/test_http_metrics.py::test_every_family_is_there_once_with_its_type_and_promtool_is_content",
    ),
    5: (
        "http/test_http_exporter.py::test_names_and_labels_are_those_of_kafka_exporter",
        "http/test_http_exporter.py::test_5_the_unmodified_exporter_says_the_same_line_by_line",
        "http/test_http_exporter.py::test_5_the_exporter_says_the_same_of_a_partition_that_nobody_leads",
        "http/test_http_cluster.py::test_5_kafka_metrics_say_what_clients_find",
    ),
    6: ("http/test_http_prometheus.py::test_6_every_panel_of_our_dashboard_and_of_7589_has_data",),
    7: (TEXT,),
    8: (TEXT, f"{API}::test_a_topic_is_made_changed_and_deleted"),
    9: (f"{SCREENS}::test_9_what_cannot_be_seen_is_shown_by_its_code",),
    10: (
        f"{API}::test_10_a_large_value_is_listed_by_its_beginning",
        f"{SCREENS}::test_10_numbers_keep_their_digits",
        f"{SCREENS}::test_10_of_a_huge_value_the_page_has_the_beginning_and_the_download_all",
    ),
    11: (
        f"{API}::test_11_records_of_many_headers_end_a_read_and_are_shown_by_the_first",
        f"{API}::test_11_a_batch_that_unpacks_to_a_gigabyte_ends_its_request_and_costs_no_memory",
    ),
    12: (f"{SCREENS}::test_12_a_thousand_topics_are_listed_at_once",),
    13: ("http/test_http_streams.py::test_13_a_tail_has_what_comes_and_counts_what_it_leaves_out",),
    14: ("memory/test_http_stalled.py::test_14_who_stops_reading_a_stream_is_closed_after_twenty_seconds",),
    15: (f"{LIMITS}::test_15_who_sends_a_head_slowly_is_closed_and_a_probe_is_answered_meanwhile",),
    16: (f"{LIMITS}::test_16_what_is_no_plain_request_is_refused_and_nothing_behind_it_is_run",),
    17: (f"{LIMITS}::test_17_a_path_that_means_something_else_to_somebody_finds_nothing",),
    18: (
        f"{API}::test_18_what_a_page_of_another_origin_can_send_changes_nothing",
        f"{ACCESS}::test_21_a_token_is_exchanged_for_a_cookie_that_ends",
    ),
    19: (f"{ACCESS}::test_19_a_name_that_was_made_to_point_here_is_refused",),
    20: (f"{ACCESS}::test_20_bound_for_others_without_a_token_only_probes_and_metrics_are_served",),
    21: (
        f"{ACCESS}::test_21_a_token_is_exchanged_for_a_cookie_that_ends",
        f"{LOST}::test_21_a_session_that_ends_asks_for_the_token_keeps_the_form_and_sends_it",
    ),
    22: (
        f"{ACCESS}::test_22_a_viewer_looks_and_neither_changes_anything_nor_sees_records",
        f"{LOST}::test_22_a_viewer_has_no_buttons_that_change_something_and_sees_no_records",
    ),
    23: (f"{ACCESS}::test_23_read_only_is_one_check_for_every_route",),
    24: (f"{LOST}::test_24_a_page_whose_broker_is_killed_says_so_and_catches_up_when_it_is_back",),
    25: (DEV,),
    26: (DEV,),
    27: (f"{API}::test_27_a_group_is_described_reset_and_deleted",),
    28: (f"{API}::test_28_a_group_of_any_name_is_listed_opened_and_deleted_or_refused_with_the_reason",),
    29: ("docker/test_docker_compose.py::test_29_a_file_for_kafkas_image_starts_with_this_one",),
    30: (
        f"{REGISTRY}serializers.py::test_records_go_from_a_serializer_to_a_deserializer",
        f"{REGISTRY}api.py::test_levels_decide_what_is_compatible",
        f"{REGISTRY}topic.py::test_a_restart_keeps_all_and_a_second_sees_it",
    ),
}
NOT_ALL: Final = {
    2: "that it lives is seen once, not for ten minutes",
    4: "p99 is measured by tests.console.cost, and not held",
    10: "how long a frame takes is not held",
    12: "0.3 s is measured by tests.console.cost, and not held",
    13: "some seconds of 1,000 records, not a minute of 50,000 a second",
    24: "no time is held: a machine may be slow",
    25: "the same",
}
"""What the tests of a scenario leave out."""


@cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(
        node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_scenario_is_in_the_table() -> None:
    assert sorted(TESTS) == list(range(1, 31))
    assert NOT_ALL.keys() <= TESTS.keys()


@pytest.mark.parametrize("number", TESTS)
def test_its_tests_are_there(number: int) -> None:
    for one in TESTS[number]:
        path, _, name = one.partition("::")
        assert name in _functions(ROOT / path), one
