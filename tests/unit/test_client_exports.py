"""What `import raftlog` gives, and what it costs."""

from __future__ import annotations

import pydoc
import subprocess
import sys

import pytest

import raftlog


def test_every_name_resolves_and_is_listed_once() -> None:
    assert len(raftlog.__all__) == len(set(raftlog.__all__))
    assert {*raftlog.__all__} == {*raftlog._HOME_OF}
    for name in raftlog.__all__:
        assert getattr(raftlog, name).__name__ == name
        assert name in dir(raftlog)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = raftlog.nonsense  # type: ignore[attr-defined]


def test_importing_raftlog_imports_nothing_else() -> None:
    code = (
        "import sys, raftlog; print([m for m in ('trio', 'kio', 'pysyncobj', 'click') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_what_one_needs() -> None:
    text = pydoc.render_doc(raftlog, renderer=pydoc.plaintext)
    for name in ("open_client", "class Producer", "class Consumer", "class Admin", "class Record"):
        assert name in text
    assert "send_soon" in text
