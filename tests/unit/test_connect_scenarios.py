"""Each scenario of the connectors has its tests."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]

SCENARIOS: Final = range(51, 69)
TAILING: Final = "unit/test_connect_tailing.py"
WORKERS: Final = "connect/test_connect_workers.py"
CONTRACT: Final = "memory/test_connect_contract.py"
REST: Final = "connect/test_connect_rest.py"
POSTGRES: Final = "connect/test_connect_postgres.py"
S3: Final = "connect/test_connect_s3.py"
S3_WORKERS: Final = "connect/test_connect_s3_workers.py"
HTTP: Final = "connect/test_connect_http.py"
POSTGRES_WORKERS: Final = "connect/test_connect_postgres_workers.py"
TESTS: Final[dict[int, list[tuple[str, str]]]] = {
    51: [
        (TAILING, "test_scenario_51_a_file_is_renamed_while_lines_are_unread"),
        (TAILING, "test_scenario_51_a_renamed_file_still_grows"),
    ],
    52: [
        (TAILING, "test_scenario_52_a_file_is_cut_short_in_its_place"),
        (TAILING, "test_scenario_52_a_file_is_cut_short_and_grows_beyond_where_it_was"),
    ],
    53: [(TAILING, "test_scenario_53_only_a_compressed_copy_is_left")],
    54: [(TAILING, "test_scenario_54_an_inode_is_used_again")],
    55: [(TAILING, "test_scenario_55_half_a_line_comes_once_and_whole")],
    56: [
        (TAILING, "test_scenario_56_a_position_that_is_none"),
        (WORKERS, "test_scenario_56_a_position_that_cannot_be_read"),
    ],
    57: [
        (POSTGRES, "test_scenario_57_a_slot_that_is_gone_or_moved_is_told"),
        (POSTGRES, "test_scenario_57_a_slot_is_made_anew_while_it_is_read"),
        (POSTGRES, "test_scenario_57_what_postgres_has_removed_is_told"),
        (POSTGRES_WORKERS, "test_scenario_57_a_slot_is_lost"),
    ],
    58: [
        (WORKERS, "test_scenario_58_a_source_is_ended_between_records_and_position"),
        (POSTGRES_WORKERS, "test_scenario_58_worker_and_postgres_are_killed_over_and_over"),
        (WORKERS, "test_scenario_61_a_worker_is_killed_over_and_over"),
    ],
    59: [
        (WORKERS, "test_scenario_59_a_sink_that_is_down_waits_and_then_has_all_in_order"),
        (POSTGRES_WORKERS, "test_scenario_59_postgres_is_away_and_comes_back"),
        (S3_WORKERS, "test_scenario_61_a_worker_is_killed_over_and_over"),
        (HTTP, "test_items_go_through_the_log_to_another_address_over_restarts"),
    ],
    60: [
        (CONTRACT, "TestSqliteSink"),
        (POSTGRES, "TestPostgresSink"),
        (S3, "TestS3Sink"),
        (HTTP, "TestHttpSink"),
    ],
    61: [
        (WORKERS, "test_scenario_61_a_worker_is_killed_over_and_over"),
        (POSTGRES, "test_scenario_61_one_who_was_paused_writes_nothing_twice"),
        (POSTGRES_WORKERS, "test_scenario_61_a_worker_is_killed_over_and_over"),
        (S3, "test_one_who_was_paused_changes_nothing"),
        (S3_WORKERS, "test_scenario_61_a_worker_is_killed_over_and_over"),
        (S3_WORKERS, "test_scenario_61_a_worker_wakes_up_when_another_has_its_partition"),
    ],
    62: [
        (WORKERS, "test_scenario_62_one_bad_row_goes_to_the_dead_letters"),
        (POSTGRES, "test_scenario_62_what_a_table_will_never_take_is_refused"),
        (POSTGRES_WORKERS, "test_scenario_62_of_a_thousand_rows_one_is_a_dead_letter"),
        (S3_WORKERS, "test_scenario_62_one_bad_record_goes_to_the_dead_letters_and_the_bucket_counts"),
    ],
    63: [
        (WORKERS, "test_scenario_63_a_table_that_does_not_fit_any_more_ends_the_connector"),
        (POSTGRES, "test_scenario_63_a_column_changes_while_the_sink_runs"),
        (POSTGRES_WORKERS, "test_scenario_63_a_row_that_does_not_fit_ends_the_worker_until_it_does"),
    ],
    64: [(WORKERS, "test_scenario_64_two_workers_share_partitions_and_hand_them_over")],
    65: [
        (WORKERS, "test_scenario_65_a_new_config_goes_on_where_the_old_one_was"),
        (REST, "test_scenarios_65_and_66_configs_and_offsets_change_and_outlive_the_worker"),
    ],
    66: [(REST, "test_scenarios_65_and_66_configs_and_offsets_change_and_outlive_the_worker")],
    67: [(REST, "test_scenario_67_answers_are_those_of_kafka_connect")],
    68: [
        (TAILING, "test_scenario_68_a_position_of_kafka_connect"),
        (WORKERS, "test_scenario_68_positions_are_kept_as_kafka_connect_keeps_them"),
    ],
}
NOT_ALL: Final = {
    67: "the calls are those of the consoles, by a list; the consoles themselves do not run",
    68: "Kafka Connect's format is played, Kafka Connect itself does not run",
}
"""What the tests of a scenario leave out."""


def test_every_scenario_has_tests_that_are_there() -> None:
    assert sorted(TESTS) == list(SCENARIOS)
    assert NOT_ALL.keys() <= TESTS.keys()
    for number, named in TESTS.items():
        for file, name in named:
            tree = ast.parse((ROOT / file).read_text())
            there = {getattr(node, "name", "") for node in tree.body}
            assert name in there, f"{number}: {file}: {name}"
