"""What a client library leaves to the garbage collector is collected before another test is blamed for it."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def collect_leftovers() -> Iterator[None]:
    """kafka-python never closes a socket that could not connect; the warning comes when it is collected,
    and warnings are errors. Import this into the conftest of a folder that uses such clients."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()
