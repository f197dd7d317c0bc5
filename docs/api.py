"""The pages of the Python API, from the docstrings: `make docs` writes them.

Every name of `raftlog`, `raftlog.streams` and `raftlog.testing` is on one of them: a name without a docstring
stops the writing.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any, Final

import raftlog
import raftlog.streams
import raftlog.streams.serdes
import raftlog.testing

_CLIENT: Final = """# The client

What `import raftlog` has for reading and writing. [Produce](../guides/produce.md),
[Consume](../guides/consume.md), [Groups](../guides/groups.md) and
[Transactions](../guides/transactions.md) show how it is used, and [Settings of the client](client.md)
says what each keyword means."""
_ADMIN: Final = """# Administration

`client.admin` and what it gives: topics, settings, groups, offsets; `client.admin.operations` is for
operators."""
_ERRORS: Final = """# Errors

What the client raises. All of them are `raftlog.ClientError`, which is a `raftlog.RaftlogError`; an
answer of a broker's is a `raftlog.BrokerError`, whose `code` is Kafka's."""
_TESTING: Final = """# Testing

`raftlog.testing`: brokers inside your tests. [Testing](../testing.md) shows how it is used, and has the
fixtures of the pytest plugin."""

_STREAMS: Final = """# Streams

`raftlog.streams`: apps that count, join and keep state. [Streams](../guides/streams.md) shows how it is
used."""

_ADMIN_HOMES: Final = ("raftlog.client.admin", "raftlog.client.admin_values", "raftlog.client.operations")
_FIRST: Final = ("open_client", "from_properties", "Client", "Producer", "Consumer", "Admin", "Operations")


def pages() -> dict[str, str]:
    """Each page by the name of its file."""
    names = sorted(raftlog.__all__, key=lambda name: (_FIRST.index(name) if name in _FIRST else 99, name))
    errors = [name for name in names if _is_error(getattr(raftlog, name))]
    admin = [name for name in names if getattr(raftlog, name).__module__ in _ADMIN_HOMES]
    client = [name for name in names if name not in errors and name not in admin]
    return {
        "api-client.md": _page(_CLIENT, raftlog, client),
        "api-admin.md": _page(_ADMIN, raftlog, admin),
        "api-errors.md": _page(_ERRORS, raftlog, errors),
        "api-streams.md": _page(_STREAMS, raftlog.streams, sorted(raftlog.streams.__all__)),
        "api-testing.md": _page(_TESTING, raftlog.testing, sorted(raftlog.testing.__all__)),
    }


def _is_error(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, Exception)


def _page(head: str, home: ModuleType, names: list[str]) -> str:
    parts = [head]
    for name in names:
        parts += _entry(home.__name__, name, getattr(home, name))
    return "\n\n".join(parts) + "\n"


def _entry(module: str, name: str, found: Any) -> Iterator[str]:
    """A heading, what it is called with, what it does; then its methods."""
    yield f"## {module}.{name}"
    if isinstance(found, raftlog.streams.Serde):
        yield f"A `Serde`. {_said_below(raftlog.streams.serdes, name)}"
        return
    if not isinstance(found, type):
        yield _called(name, found)
        yield _doc(name, found)
        return
    if bases := [base.__name__ for base in found.__mro__[1:] if base.__name__ in raftlog.__all__]:
        yield f"A kind of {', '.join(f'`{base}`' for base in bases)}."
    if found is raftlog.streams.App:  # the others are made by a function or a method
        yield _called(name, found.__init__)
    if fields := _fields(found):
        yield f"```text\n{name}({', '.join(fields)})\n```"
    yield _doc(name, found)
    for method_name, method in _methods(found):
        if isinstance(method, property):
            yield f"### {name}.{method_name}"
            yield _doc(f"{name}.{method_name}", method.fget)
        else:
            yield f"### {name}.{method_name}()"
            yield _called(method_name, method)
            yield _doc(f"{name}.{method_name}", method)


def _said_below(module: ModuleType, name: str) -> str:
    """The string below a constant."""
    body = ast.parse(inspect.getsource(module)).body
    for at, below in pairwise(body):
        match at, below:
            case ast.AnnAssign(target=ast.Name(id=found)), ast.Expr(value=ast.Constant(value=str(text))):
                if found == name:
                    return text
    raise SystemExit(f"nothing is said below {name}: docs/reference needs it")


def _fields(cls: type[Any]) -> list[str]:
    """Of a dataclass or a named tuple, with their types."""
    if dataclasses.is_dataclass(cls) and "Settings" not in cls.__name__:
        return [f"{field.name}: {field.type}" for field in dataclasses.fields(cls)]
    if issubclass(cls, tuple) and hasattr(cls, "_fields"):
        hints = inspect.get_annotations(cls)
        return [f"{field}: {_plain(hints.get(field, 'Any'))}" for field in cls._fields]
    return []


def _methods(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """Public ones, in the order in which they are written; of an error's base only once. Those of a part that
    an App is put together from are its own."""
    parts = [base for base in cls.__bases__ if base.__module__ == "raftlog.streams.commands"]
    for name, found in [pair for one in (cls, *parts) for pair in vars(one).items()]:
        if name.startswith("_") or (name in dir(tuple) and issubclass(cls, tuple)):
            continue
        if isinstance(found, property) or (inspect.isroutine(found) and name != "running"):
            yield name, found.__func__ if isinstance(found, classmethod | staticmethod) else found


def _called(name: str, found: Callable[..., Any]) -> str:
    signature = inspect.signature(found)
    shown = [
        one.replace(annotation=_Shown(one.annotation))
        for one in signature.parameters.values()
        if one.name != "self"
    ]
    text = str(signature.replace(parameters=shown, return_annotation=_Shown(signature.return_annotation)))
    text = re.sub(r"<function (\w+) at 0x[0-9a-f]+>", r"\1", text)
    is_async = inspect.iscoroutinefunction(found)
    return f"```text\n{'await ' if is_async else ''}{name}{text}\n```"


class _Shown:
    """An annotation in a signature, without quotes."""

    def __init__(self, annotation: Any) -> None:
        self._text = _plain(annotation)

    def __repr__(self) -> str:
        return self._text


def _plain(text: Any) -> str:
    """An annotation as a person writes it."""
    shown = text if isinstance(text, str) else getattr(text, "__forward_arg__", str(text))
    for variable, meaning in (("K_contra", "K"), ("V_contra", "V"), ("K_co", "K"), ("V_co", "V")):
        shown = shown.replace(variable, meaning)
    return shown


def _doc(name: str, found: Any) -> str:
    text = inspect.getdoc(found)
    if not text:
        raise SystemExit(f"{name} has no docstring: docs/reference needs one")
    # Settings are lists of `name:` and an indented meaning: shown in a table on a page of their own.
    if name.endswith("Settings"):
        text = text.split("\n\n")[0] + " [What each means](client.md)."
    return re.sub(r"^( {4,}\S)", r"\1", text, flags=re.MULTILINE)
