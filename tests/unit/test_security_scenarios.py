"""Each of the 62 scenarios of security has a test, in this table: one that is taken away is missed."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]

TESTS: Final = {
    1: "compat/test_compat_tls.py::test_plain_text_to_tls_is_told_nothing_and_the_log_says_what_it_was",
    2: "badinput/test_badinput_frames.py::test_another_protocol_on_the_kafka_port",
    3: "compat/test_compat_tls.py::test_who_says_half_of_a_hello_is_given_up_and_others_do_not_notice",
    4: "compat/test_compat_tls.py::test_who_says_half_of_a_hello_is_given_up_and_others_do_not_notice",
    5: "memory/test_broker_certificate.py::test_nobody_renegotiates",
    6: "compat/test_compat_tls.py::test_a_client_without_a_certificate_of_ours_is_refused",
    7: "unit/test_broker_principals.py::test_a_name_is_escaped_as_java_does",
    8: "compat/test_compat_tls.py::test_a_certificate_is_renewed_while_clients_go_on",
    9: "memory/test_net_tls.py::test_whatever_is_queued_arrives_as_it_was_however_full_the_socket",
    10: "memory/test_net_tls.py::test_bytes_that_are_decrypted_already_are_readable",
    11: "security/test_security_deleted.py::test_what_is_deleted_while_it_is_sent_arrives_whole",
    12: "security/test_security_idle.py"
    "::test_ten_thousand_idle_connections_take_little_memory_and_are_served_still",
    13: "memory/test_broker_gate.py::test_nothing_is_served_before_a_login",
    14: "memory/test_broker_gate.py::test_versions_are_asked_for_a_few_times_only",
    15: "memory/test_broker_gate.py::test_a_large_request_before_a_login_is_the_end",
    16: "memory/test_broker_security.py::test_many_who_begin_a_login_keep_nobody_out",
    17: "unit/test_protocol_scram.py::test_a_recorded_exchange_is_of_no_use",
    18: "unit/test_protocol_scram.py::test_two_forms_of_nonce_are_taken_and_no_other",
    19: "memory/test_broker_gate.py::test_who_does_not_is_told_the_same_whatever_is_wrong",
    20: "memory/test_broker_handlers.py::test_a_credential_is_taken_within_kafkas_bounds",
    21: "unit/test_protocol_scram.py::test_a_client_does_not_work_for_any_server",
    22: "compat/test_compat_sasl.py::test_librdkafka_logs_in",
    23: "memory/test_broker_handlers.py::test_two_names_that_look_alike_are_one_user",
    24: "unit/test_protocol_scram.py::test_plain_that_is_none",
    25: "memory/test_broker_gate.py::test_a_second_handshake_within_a_login_is_the_end",
    26: "memory/test_broker_gate.py::test_a_connection_stays_its_owners",
    27: "client/test_client_sasl.py::test_records_go_there_and_back_while_sessions_end",
    28: "memory/test_broker_tokens.py::test_any_other_is_not_and_the_reason_is_said",
    29: "memory/test_broker_tokens.py::test_without_keys_nobody_is_served",
    30: "memory/test_broker_gate.py::test_an_address_that_is_refused_often_waits_and_is_not_shut_out",
    31: "cluster/test_cluster_registers.py::test_what_has_returned_is_in_force_on_every_broker",
    32: "cluster/test_cluster_authorized.py"
    "::test_a_deny_returns_although_a_broker_does_not_answer_and_that_broker_serves_nobody",
    33: "cluster/test_cluster_authorized.py"
    "::test_a_deny_returns_although_a_broker_does_not_answer_and_that_broker_serves_nobody",
    34: "cluster/test_cluster_authorized.py::test_rules_outlive_all_brokers",
    35: "property/test_acls.py::test_the_index_says_what_a_walk_says",
    36: "memory/test_broker_authorized.py::test_a_fetch_that_waits_is_judged_again",
    37: "memory/test_broker_security.py::test_a_deny_and_an_allow_of_one_request_are_in_force_together",
    38: "property/test_acls.py::test_the_index_says_what_a_walk_says",
    39: "memory/test_broker_security.py::test_who_claims_to_be_a_replica_is_a_consumer",
    40: "memory/test_broker_authorized.py::test_without_a_right_what_is_there_and_what_is_not_answer_alike",
    41: "memory/test_broker_authorized.py::test_metadata_shows_what_may_be_described",
    42: "memory/test_broker_authorized.py::test_a_topic_is_not_created_by_who_may_only_write",
    43: "memory/test_broker_authorized.py::test_metadata_shows_what_may_be_described",
    44: "memory/test_broker_security.py::test_cluster_action_opens_nothing",
    45: "memory/test_broker_security.py::test_who_deletes_the_last_acl_about_something_is_warned",
    46: "memory/test_broker_security.py::test_super_users_are_separated_by_semicolons",
    47: "memory/test_broker_security.py::test_no_deny_stops_a_super_user_and_the_audit_log_has_it",
    48: "memory/test_broker_security.py::test_a_hundred_thousand_acls_are_found_as_fast_as_a_few",
    49: "memory/test_broker_security.py::test_an_older_broker_in_the_cluster_is_told_of_no_acl",
    50: "cluster/test_cluster_secret.py::test_a_running_cluster_is_given_a_secret_and_lets_no_stranger_in",
    51: "memory/test_transport_secured.py::test_who_has_no_secret_is_refused_and_both_sides_say_why",
    52: "memory/test_transport_secured.py::test_a_secret_is_exchanged",
    53: "memory/test_transport_secured.py::test_clocks_do_not_matter",
    54: "memory/test_transport_secured.py::test_strangers_do_not_keep_a_peer_out",
    55: "unit/test_broker_quotas.py::test_a_rate_holds_over_half_a_minute",
    56: "memory/test_broker_security.py"
    "::test_an_address_that_has_enough_connections_takes_no_place_of_others",
    57: "unit/test_broker_quotas.py"
    "::test_a_client_id_that_changes_leaves_the_users_quota_alone_and_the_table_bounded",
    58: "memory/test_broker_quotas.py::test_acks_0_is_slowed_down_too",
    59: "unit/test_config_secrets.py::test_a_mistake_near_a_secret_does_not_show_it",
    60: "memory/test_broker_gate.py::test_a_password_that_changes_ends_what_was_made_with_it",
    61: "memory/test_broker_security.py::test_a_name_cannot_end_a_line_or_make_up_another",
    62: "client/test_client_sasl.py::test_a_broker_that_others_reach_wants_to_know_who_they_are",
}


@cache
def _functions(path: Path) -> frozenset[str]:
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def test_every_scenario_is_in_the_table() -> None:
    assert sorted(TESTS) == list(range(1, 63))


@pytest.mark.parametrize("number", TESTS)
def test_its_test_is_there(number: int) -> None:
    path, _, name = TESTS[number].partition("::")
    assert name in _functions(ROOT / path)
