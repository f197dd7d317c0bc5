"""Clients' own warnings are theirs."""

from __future__ import annotations

import pytest

collect_ignore = ["sample_project"]  # a project of its own: test_testing_typing.py runs it


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.name == "test_testing_clients.py":
            item.add_marker(pytest.mark.filterwarnings("default"))
