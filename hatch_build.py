"""What building a wheel or a source archive adds: the commit that it was made of, for `raftlog --version`."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface[Any]):
    """Puts raftlog/commit.txt into the archive; an archive that is built from another has it already."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        found = root / "raftlog" / "commit.txt"
        if found.exists():
            return
        commit = _version_module(root).commit_of(root)
        if commit:
            made = Path(tempfile.mkdtemp(prefix="raftlog-build-")) / "commit.txt"
            made.write_text(f"{commit}\n", encoding="ascii")
            build_data["force_include"][str(made)] = "raftlog/commit.txt"


def _version_module(root: Path) -> Any:
    """raftlog/version.py alone: what else the package needs may not be installed where it is built."""
    spec = importlib.util.spec_from_file_location("raftlog_version", root / "raftlog" / "version.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
