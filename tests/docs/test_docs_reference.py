"""The reference says what the code does now."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import raftlog
import raftlog.streams
import raftlog.testing
from tests.docs.story import ROOT


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_has_an_entry() -> None:
    """Of the client, the admin, the errors, streams and the test kit; and nothing has one that is none."""
    found = [
        heading
        for path, text in _generator().pages().items()
        if path.name.startswith("api-")
        for heading in re.findall(r"^## (raftlog\S+)$", text, re.MULTILINE)
    ]
    names = [f"raftlog.{name}" for name in raftlog.__all__]
    names += [f"raftlog.streams.{name}" for name in raftlog.streams.__all__]
    names += [f"raftlog.testing.{name}" for name in raftlog.testing.__all__]
    assert sorted(found) == sorted(names)


def test_the_reference_is_what_make_docs_writes() -> None:
    for path, text in _generator().pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run `make docs`"
