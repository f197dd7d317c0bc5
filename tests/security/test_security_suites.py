"""A little of each suite in TLS, with logins, ACLs and the secret between brokers.

All of it: RAFTLOG_TEST_SECURITY=sasl_ssl pytest tests/compat tests/client tests/cluster
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.secured import SECURITY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.xdist_group("cluster"),
    pytest.mark.skipif(bool(SECURITY), reason="all of it is being played that way"),
]

PATIENCE_S = 240.0
SOME = {
    "clients": ("tests/compat", "acks-all or one-member-has-all or (commit and confluent and not offset)"),
    "own client": ("tests/client", "example_of_the_docs or properties_file or two_consumers_share"),
    "failover": ("tests/cluster/test_cluster_faults.py", "has_ended or killed"),
}


@pytest.mark.parametrize("what", SOME)
def test_some_of_a_suite_passes_in_tls_with_logins_and_rules(what: str) -> None:
    folder, words = SOME[what]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", folder, "-k", words]
    environment = {**os.environ, "RAFTLOG_TEST_SECURITY": "sasl_ssl"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S)
    assert ended.returncode == 0, ended.stdout[-4000:]
    assert " passed" in ended.stdout and "skipped" not in ended.stdout, ended.stdout[-1000:]
