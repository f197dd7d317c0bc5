"""The lowest versions of what pyproject.toml allows are found, and are what was found to work."""

from __future__ import annotations

import tomllib

import pytest

from tests.versions import HERE, interpreter, lowest, pythons


def test_the_lowest_of_each_kind_of_bound() -> None:
    assert lowest(["a>=1.2", "b-c==3", "d~=4.5.6"]) == ["a==1.2", "b-c==3", "d==4.5.6"]
    for requirement in ("a", "a<2", "a>1"):
        with pytest.raises(ValueError, match="lowest"):
            lowest([requirement])


def test_this_python_is_found_and_one_that_is_none_is_not() -> None:
    import sys

    version = f"3.{sys.version_info[1]}"
    assert interpreter(version) is not None
    assert interpreter("3.999") is None
    assert version in pythons([f"Programming Language :: Python :: {version}", "Typing :: Typed"])


def test_every_dependency_names_a_lowest_version_and_is_imported() -> None:
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    source = "\n".join(path.read_text() for path in (HERE / "raftlog").rglob("*.py"))
    for pinned in lowest(project["dependencies"]):
        module = pinned.partition("==")[0].replace("-", "_")
        assert f"import {module}" in source or f"from {module}" in source, f"nothing imports {module}"
