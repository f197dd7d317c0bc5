"""Each scenario of streams has its tests, at each level that it is to be played at: by the driver (d), by the
worker in a simulated world (w), on embedded brokers (b), under the chaos suite (c)."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]

STATE: Final = "tests/unit/test_streams_state.py"
TIME: Final = "tests/unit/test_streams_time.py"
LOOKUPS: Final = "tests/unit/test_streams_lookups.py"
ACTED: Final = "tests/streams/test_streams_scenarios.py"
WORLD: Final = "tests/streams/test_streams_world.py"
WORKERS: Final = "tests/streams/test_streams_workers.py"
BROKERS: Final = "tests/streams/test_streams_brokers.py"
CHAOS: Final = "chaos/tests/test_chaos_counter.py"

SEEDS: Final = ("w", WORLD, "test_new_seeds")
"""Its app has windows behind a repartition, partitions that are apart in time, kills and rebalances."""
KILLED: Final = ("w", ACTED, "test_1_3_4_a_worker_that_is_killed_at_any_call_loses_nothing")
CRASH_ALO: Final = ("d", STATE, "test_at_least_once_a_crash_anywhere_in_a_commit_loses_nothing")
CRASH_EO: Final = ("d", STATE, "test_exactly_once_a_crash_anywhere_in_a_commit_has_each_effect_once")
POWER: Final = ("d", STATE, "test_a_power_cut_leaves_rows_and_position_that_agree")
RESTARTS: Final = ("b", WORKERS, "test_words_are_counted_through_restarts_with_and_without_state")
COUNTER: Final = ("c", CHAOS, "test_each_record_is_counted_once_though_workers_and_brokers_are_killed")

SIMULATOR: Final = ("w", "tests/sim/test_simulation.py", "test_random_seeds")
"""Half of its seeds have producers that compare and append."""

LEVELS: Final[dict[int, str]] = {
    1: "wb", 2: "wc", 3: "w", 4: "wb", 5: "d", 6: "d", 7: "wb", 8: "d", 9: "dw", 10: "wb", 11: "w", 12: "w",
    13: "wc", 14: "bc", 15: "bc", 16: "b", 17: "wb", 18: "b", 19: "b", 20: "wb", 21: "db", 22: "db", 23: "db",
    24: "db", 25: "wb", 26: "b", 27: "d", 28: "d", 29: "d", 30: "d", 31: "dw", 32: "d", 33: "dw", 34: "d",
    35: "dw", 36: "w", 37: "d", 38: "d", 39: "db", 40: "b", 41: "w", 42: "db", 43: "db", 44: "d", 45: "d",
    46: "db", 47: "d", 48: "wb", 49: "wc", 50: "wb",
}  # fmt: skip
"""51 to 68 are of connectors, which have a list of their own."""

TESTS: Final[dict[int, list[tuple[str, str, str]]]] = {
    1: [KILLED, CRASH_EO, ("b", BROKERS, "test_scenario_1_a_worker_dies_between_its_outputs_and_the_end")],
    2: [("w", ACTED, "test_2_a_commit_whose_answer_is_lost_has_its_effect_once"), COUNTER],
    3: [KILLED, CRASH_ALO],
    4: [KILLED, CRASH_ALO, CRASH_EO, RESTARTS],
    5: [POWER],
    6: [POWER],
    7: [
        ("w", ACTED, "test_7_after_an_abort_the_worker_goes_on_and_counts_right"),
        ("w", ACTED, "test_7_a_worker_whose_transaction_timed_out_ends_and_the_next_one_counts_right"),
        ("b", BROKERS, "test_scenario_7_the_broker_aborts_a_transaction_that_takes_too_long"),
    ],
    8: [
        ("d", STATE, "test_changes_beyond_their_bound_are_committed_early"),
        ("w", ACTED, "test_8_changes_beyond_their_bound_are_committed_early"),
    ],
    9: [
        ("d", LOOKUPS, "test_scenario_9_what_has_no_answer_fails_and_no_offset_passes_it"),
        ("d", LOOKUPS, "test_scenario_9_by_the_rule_it_is_counted_or_goes_to_the_dlq"),
        ("w", ACTED, "test_scenario_9_a_look_up_that_hangs_is_waited_for_and_no_offset_passes_it"),
        ("w", ACTED, "test_scenario_9_answers_come_in_the_order_of_records_through_kills"),
    ],
    10: [
        ("w", ACTED, "test_10_12_a_restore_that_is_interrupted_goes_on_where_it_was"),
        ("b", WORKERS, "test_two_workers_share_the_work_and_take_over"),
    ],
    11: [("w", ACTED, "test_11_partitions_are_assigned_while_others_restore_and_none_stays_paused")],
    12: [("w", ACTED, "test_10_12_a_restore_that_is_interrupted_goes_on_where_it_was")],
    13: [
        ("w", ACTED, "test_13_a_worker_that_slept_beyond_its_session_commits_nothing_more"),
        ("c", CHAOS, "test_each_record_is_counted_once_though_workers_sleep_beyond_their_sessions"),
    ],
    14: [
        ("b", WORKERS, "test_a_leader_and_the_coordinator_are_cut_off_while_words_are_counted"),
        COUNTER,
    ],
    15: [("b", WORKERS, "test_a_changelog_s_leader_is_cut_off_while_it_is_restored"), COUNTER],
    16: [("b", WORKERS, "test_of_two_workers_with_one_name_the_first_is_told")],
    17: [
        ("w", ACTED, "test_17_a_worker_of_another_topology_is_refused_and_the_others_go_on"),
        ("b", WORKERS, "test_a_worker_of_another_topology_is_refused_and_the_others_go_on"),
    ],
    18: [
        RESTARTS,
        ("w", ACTED, "test_18_a_worker_that_is_stopped_leaves_and_another_has_its_tasks_within_a_second"),
        ("b", WORKERS, "test_scenarios_18_and_20_a_standby_takes_over_without_a_restore"),
    ],
    19: [("b", WORKERS, "test_scenario_19_a_static_member_restarts_and_nobody_else_s_task_moves")],
    20: [
        ("w", ACTED, "test_scenarios_18_and_20_a_standby_takes_over_with_the_state_of_the_old_owner"),
        (
            "w",
            ACTED,
            "test_scenario_20_one_that_comes_without_state_warms_up_while_the_task_runs_where_it_was",
        ),
        ("w", ACTED, "test_scenario_20_copies_forget_windows_that_are_over"),
        ("b", WORKERS, "test_scenarios_18_and_20_a_standby_takes_over_without_a_restore"),
        ("b", WORKERS, "test_scenario_20_a_worker_without_state_warms_up_and_then_has_its_share"),
    ],
    21: [("d", STATE, "test_a_changelog_that_holds_more_offsets_than_records_is_restored"), RESTARTS],
    22: [
        ("d", STATE, "test_a_changelog_that_holds_more_offsets_than_records_is_restored"),
        ("b", BROKERS, "test_scenario_22_an_empty_changelog_with_a_high_start_is_restored_at_once"),
    ],
    23: [
        ("d", STATE, "test_a_changelog_cut_off_behind_the_local_state_makes_it_anew"),
        ("b", BROKERS, "test_scenario_23_a_changelog_that_begins_behind_the_rows_on_disk_makes_them_anew"),
    ],
    24: [
        ("d", STATE, "test_a_changelog_made_anew_is_an_error_or_a_new_begin"),
        ("b", BROKERS, "test_scenario_24_a_changelog_that_was_made_anew_is_told_or_begun_anew"),
    ],
    25: [
        ("w", ACTED, "test_25_a_restore_waits_for_the_open_transaction_of_one_that_died"),
        ("b", WORKERS, "test_a_restore_waits_for_an_open_transaction_of_one_that_died"),
    ],
    26: [("b", WORKERS, "test_a_source_that_lost_what_was_not_read_yet_is_told_or_skipped")],
    27: [("d", STATE, "test_a_damaged_file_is_told")],
    28: [("d", STATE, "test_a_file_of_a_newer_format_or_of_another_app_is_refused")],
    29: [("d", STATE, "test_a_full_disk_loses_nothing_and_is_gone_on_from_when_there_is_room")],
    30: [("d", TIME, "test_a_late_record_counts_within_the_grace_and_not_after")],
    31: [("d", TIME, "test_no_window_closes_before_the_slowest_input_is_there"), SEEDS],
    32: [("d", TIME, "test_a_silent_input_does_not_hold_windows_up")],
    33: [("d", TIME, "test_a_replay_gives_the_same_final_results"), SEEDS],
    34: [("d", TIME, "test_a_record_from_the_future_closes_nothing")],
    35: [
        ("d", TIME, "test_a_restart_before_its_end_closes_a_window_once_with_all_its_records"),
        SEEDS,
    ],
    36: [("d", TIME, "test_one_lagging_writer_has_no_late_records_behind_a_repartition"), SEEDS],
    37: [("d", TIME, "test_sessions_that_meet_become_one_and_say_so")],
    38: [("d", TIME, "test_a_hopping_window_has_its_start_and_not_its_end")],
    39: [
        ("d", STATE, "test_inputs_that_do_not_go_together_are_refused_with_the_remedy"),
        ("b", WORKERS, "test_topics_that_are_missing_or_do_not_fit_are_told_before_anything_is_read"),
    ],
    40: [("b", WORKERS, "test_a_worker_ends_when_its_input_grows_and_goes_on_where_no_key_has_moved")],
    41: [("w", ACTED, "test_41_records_of_a_key_are_on_one_task_in_the_order_of_where_they_came_from")],
    42: [
        ("d", STATE, "test_a_poison_record_ends_the_app_after_what_was_before"),
        ("b", WORKERS, "test_a_poison_record_ends_the_worker_with_what_was_before_committed"),
    ],
    43: [
        ("d", STATE, "test_a_poison_record_goes_to_the_dlq_as_it_came"),
        ("b", BROKERS, "test_scenario_43_a_poison_record_is_in_the_dlq_once_as_it_came"),
    ],
    44: [("d", STATE, "test_a_value_of_an_old_schema_names_store_and_key")],
    45: [("d", STATE, "test_a_table_row_that_is_gone_is_no_partner")],
    46: [
        ("d", STATE, "test_a_table_row_that_is_gone_is_no_partner"),
        ("b", WORKERS, "test_a_table_is_loaded_before_the_stream_is_joined"),
    ],
    47: [("d", STATE, "test_a_record_without_a_key_is_not_counted")],
    48: [
        SIMULATOR,
        (
            "b",
            "tests/client/test_client_expected_offset.py",
            "test_of_two_writers_who_expect_the_same_one_appends_and_the_other_learns_the_end",
        ),
        (
            "b",
            "tests/client/test_client_expected_offset.py",
            "test_a_retry_of_the_winner_is_told_where_it_is",
        ),
    ],
    49: [SIMULATOR, ("c", "chaos/scenarios/processes.py", "appends")],
    50: [
        SEEDS,
        (
            "b",
            "tests/streams/test_streams_commands.py",
            "test_50_an_old_version_is_refused_also_by_the_next_worker",
        ),
    ],
}


def test_every_scenario_has_tests_that_are_there_at_each_of_its_levels() -> None:
    there: dict[str, set[str]] = {}
    assert TESTS.keys() == LEVELS.keys()
    for number, named in TESTS.items():
        for _, file, name in named:
            if file not in there:
                there[file] = {getattr(n, "name", "") for n in ast.parse((ROOT / file).read_text()).body}
            assert name in there[file], f"{number}: {file}: {name}"
        played = {level for level, _, _ in named}
        for level in LEVELS[number]:
            assert level in played, f"{number}: {level}"
