"""What building a wheel or a source archive adds: the commit that it was made of, for `raftlog --version`;
and, where RAFTLOG_COMPILE=1 asks for it, the record codec, compiled.

The codec is compiled from the same source by mypyc, which needs a C compiler and Python's headers. The wheel
is then one for this Python on this platform. It has the source, too, for who reads it.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CODEC = "raftlog/records/record.py"
OPTIONS = ("--config-file=", "--ignore-missing-imports")  # of what it imports, nothing is installed here


class Hook(BuildHookInterface[Any]):
    """Adds to the archive what is not in the repository."""

    def dependencies(self) -> list[str]:
        return ["mypy>=2.4", "setuptools"] if self._compiles else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        self._add_commit(build_data)
        if self._compiles:
            self._add_codec(build_data)

    @property
    def _compiles(self) -> bool:
        return self.target_name == "wheel" and os.environ.get("RAFTLOG_COMPILE") == "1"

    def _add_commit(self, build_data: dict[str, Any]) -> None:
        """raftlog/commit.txt. An archive that is built from another has it already."""
        root = Path(self.root)
        found = root / "raftlog" / "commit.txt"
        if found.exists():
            return
        commit = _version_module(root).commit_of(root)
        if commit:
            made = Path(tempfile.mkdtemp(prefix="raftlog-build-")) / "commit.txt"
            made.write_text(f"{commit}\n", encoding="ascii")
            build_data["force_include"][str(made)] = "raftlog/commit.txt"

    def _add_codec(self, build_data: dict[str, Any]) -> None:
        """The extension modules beside the source: Python prefers them. Raises CalledProcessError when they
        cannot be made: who asks for them is not given something else."""
        made = Path(tempfile.mkdtemp(prefix="raftlog-build-"))
        shutil.copytree(Path(self.root) / "raftlog", made / "raftlog")
        subprocess.run([sys.executable, "-m", "mypyc", *OPTIONS, CODEC], cwd=made, check=True)
        for module in (made / CODEC).parent.glob("record*.so"):
            build_data["force_include"][str(module)] = f"raftlog/records/{module.name}"
        build_data["pure_python"] = False
        build_data["infer_tag"] = True


def _version_module(root: Path) -> Any:
    """raftlog/version.py alone: what else the package needs may not be installed where it is built."""
    spec = importlib.util.spec_from_file_location("raftlog_version", root / "raftlog" / "version.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
