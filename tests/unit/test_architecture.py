"""What keeps the parts apart, as numbers. import-linter has the layers and the circles (pyproject.toml)."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

import raftlog
from tests.docs.story import ROOT
from tests.docs.walks import walks

HERE: Final = Path(raftlog.__file__).parent
MEMBERS_MAX: Final = 25
"""Public members of a class: methods, properties, attributes, those of our own bases too."""

LINES_MAX: Final = 500
"""Of a file: it reads in one sitting."""

ENUMS: Final = {"Enum", "IntEnum", "Flag", "IntFlag"}
"""Their members are values, not what a class can do."""


@dataclass(frozen=True, slots=True)
class Class:
    """A class by what its source says. Bases are full names as far as imports tell them."""

    name: str
    bases: list[str]
    members: set[str] = field(default_factory=set)


def modules(which_say: str = "") -> Iterator[tuple[str, ast.Module]]:
    """Those that have this text."""
    for path in sorted(HERE.rglob("*.py")):
        parts = path.relative_to(HERE.parent).with_suffix("").parts
        text = path.read_text()
        if which_say in text:
            yield ".".join(part for part in parts if part != "__init__"), ast.parse(text)


def classes(module: str, tree: ast.Module) -> Iterator[Class]:
    """The classes of a module, those in classes and functions too."""
    found = list(statements(tree))
    full = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in found
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in found:
        if isinstance(node, ast.ClassDef):
            bases = [ast.unparse(base).partition("[")[0] for base in node.bases]
            named = [full.get(base, base if "." in base else f"{module}.{base}") for base in bases]
            yield Class(f"{module}.{node.name}", named, set(members(node)))


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Those in it, and in each other, without their expressions."""
    for one in ast.iter_child_nodes(node):
        if isinstance(one, ast.stmt | ast.excepthandler | ast.match_case):
            yield one
            yield from statements(one)


def members(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
                yield from attributes(statement)
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.Assign(targets=targets):
                yield from (name.id for target in targets for name in ast.walk(target) if is_name(name))


def is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def attributes(function: ast.AST) -> Iterator[str]:
    """What a method sets of its object."""
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            yield node.attr


def public_members(found: dict[str, Class], name: str) -> set[str]:
    """Of a class and of those of its bases that are ours."""
    if name not in found:
        return set()
    own = {member for member in found[name].members if not member.startswith("_")}
    return own.union(*(public_members(found, base) for base in found[name].bases))


def is_enum(found: dict[str, Class], name: str) -> bool:
    bases = found[name].bases if name in found else []
    return name.rpartition(".")[2] in ENUMS or any(is_enum(found, base) for base in bases)


def counted(trees: Iterable[tuple[str, ast.Module]]) -> dict[str, int]:
    found = {one.name: one for module, tree in trees for one in classes(module, tree)}
    return {name: len(public_members(found, name)) for name in found if not is_enum(found, name)}


def uses_of(name: str, tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Where a module names something: the function, or "" outside of all, and whether it is called there."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(node): function.name for function in functions for node in ast.walk(function)}
    called = {
        id(node.func.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == name:
            yield inside.get(id(node), ""), id(node) in called


def test_no_class_can_do_too_much() -> None:
    larger = {name: count for name, count in counted(modules()).items() if count > MEMBERS_MAX}
    assert larger == {}


def test_no_file_is_too_long() -> None:
    lines = {
        str(path.relative_to(HERE)): len(path.read_text().splitlines()) for path in sorted(HERE.rglob("*.py"))
    }
    longer = {name: count for name, count in lines.items() if count > LINES_MAX}
    assert longer == {}


def test_members_are_counted() -> None:
    tree = ast.parse(
        "class A:\n"
        "    one: int\n"
        "    two = three = 1\n"
        "    def __init__(self): self.four, self._five = 1, 2\n"
        "    @property\n"
        "    def six(self): ...\n"
        "    async def seven(self): self.eight += 1\n"
        "class B(A):\n"
        "    one: int\n"
        "    def nine(self, other): other.ten = 1\n"
        "class C(Enum):\n"
        "    ELEVEN = 1\n"
    )
    assert counted([("m", tree)]) == {"m.A": 7, "m.B": 8}


def test_nobody_holds_the_node() -> None:
    """One function opens it, and gives away its life and its parts."""
    importers = {
        module: tree
        for module, tree in modules("raftlog.cluster.node")
        if any(
            isinstance(node, ast.ImportFrom) and node.module == "raftlog.cluster.node"
            for node in ast.walk(tree)
        )
    }
    assert set(importers) == {"raftlog.broker.server"}
    assert list(uses_of("Node", importers["raftlog.broker.server"])) == [("_open_node", True)]


def test_who_holds_something_is_found() -> None:
    tree = ast.parse(
        "def f():\n    x = Node.open()\n"
        "class A:\n    def __init__(self, node: Node): self.node = node\n"
        "    held: Node\n"
    )
    assert sorted(uses_of("Node", tree)) == [("", False), ("__init__", False), ("f", True)]


def defined(tree: ast.Module) -> Iterator[str]:
    """The functions of a module and the methods of its classes, by their full names."""
    for node in tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.ClassDef(name=name, body=body):
                inside = defined(ast.Module(body, []))
                yield from (f"{name}.{one}" for one in inside)


def test_the_walks_name_what_is_there() -> None:
    """docs/architecture.md; `tests/docs/test_docs_walks.py` looks whether brokers do so."""
    found = walks()
    assert len(found) == 4
    for step in {step for steps in found.values() for step in steps}:
        file, _, function = step.partition(": ")
        path = HERE / file
        assert path.exists(), step
        assert function in set(defined(ast.parse(path.read_text()))), step


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "tests/README.md"])
def test_the_files_that_are_named_are_there(page: str) -> None:
    """By their path from somewhere in the repository."""
    named = {
        name
        for name in re.findall(r"`([\w./]*\w\.(?:py|js|md|txt|toml))\b", (ROOT / page).read_text())
        if not any((ROOT / top / name).exists() for top in ("", "raftlog", "raftlog/cluster", "tests"))
    }
    unseen = {name for name in named if not any(ROOT.glob(f"[a-z]*/**/{name}"))}
    assert unseen == set()
