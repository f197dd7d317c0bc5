"""What the calls of the client are given: checked at the call, by the call's own annotations.

What is wrong raises where it is given, in words that say what to give. Much of it would otherwise come to
light only when it is encoded, in a background task, where it ends the whole client. TypeError is for a wrong
type, ValueError for a right one that the protocol cannot say. On the way partitions that are plain tuples
become TopicPartition, and iterators lists.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache, wraps
from typing import Any, Final, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

C = TypeVar("C", bound=type)

INT64_MAX: Final = 2**63 - 1
TEXT_BYTES_MAX: Final = 2**15 - 1
"""A string's length is an int16 on the wire."""


class Objection(NamedTuple):
    """What is wrong with a value: the error that says so, and what should be given."""

    error: type[TypeError] | type[ValueError]
    wanted: str


def objection(value: Any, hint: Any) -> Objection | None:
    """What is wrong with a value where an annotation says what to give, or None."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        found = [objection(value, one) for one in arguments]
        if None in found:
            return None
        return next((one for one in found if one and one.error is ValueError), _wrong_type(hint))
    if origin is Literal:
        return None if value in arguments and type(value) is not bool else _wrong_type(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return None
    if hint in _SCALARS:
        return _SCALARS[hint](value)
    if origin is tuple:
        return _tuple_objection(value, hint, arguments)
    if hint is Callable or origin is Callable or origin is _CALLABLE:
        return None if callable(value) else _wrong_type(hint)
    if origin is re.Pattern:
        fits = isinstance(value, re.Pattern) and isinstance(value.pattern, arguments[0])
        return None if fits else _wrong_type(hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return _wrong_type(hint)
        return _first(hint, value, arguments[0]) or _first(hint, value.values(), arguments[1])
    if isinstance(origin, type) and issubclass(origin, Iterable):
        if isinstance(value, str | bytes | bytearray | Mapping) or not isinstance(value, Collection):
            return _wrong_type(hint)
        return _first(hint, value, arguments[0])
    return _class_objection(value, hint)


def _class_objection(value: Any, cls: Any) -> Objection | None:
    """Of a named tuple, for which a plain one will do, a dataclass, or any other class."""
    fields = _fields(cls)
    if issubclass(cls, tuple) and isinstance(value, tuple) and len(value) == len(fields):
        return _first(cls, value, *fields.values())
    if not isinstance(value, cls):
        return _wrong_type(cls)
    for name, hint in fields.items():
        found = objection(getattr(value, name), hint)
        if found is not None:
            return Objection(found.error, f"{cls.__name__} whose {name} must be {found.wanted}")
    return None


def _tuple_objection(value: Any, hint: Any, arguments: tuple[Any, ...]) -> Objection | None:
    if not isinstance(value, tuple):
        return _wrong_type(hint)
    if arguments[1:] == (...,):
        return _first(hint, value, arguments[0])
    return _first(hint, value, *arguments) if len(value) == len(arguments) else _wrong_type(hint)


def _first(hint: Any, values: Iterable[Any], *kinds: Any) -> Objection | None:
    """The first objection to what a value holds: one kind for all, or one for each."""
    pairs = zip(values, kinds, strict=True) if len(kinds) > 1 else ((value, kinds[0]) for value in values)
    found = next((one for value, kind in pairs if (one := objection(value, kind)) is not None), None)
    return found and Objection(found.error, f"{spoken(hint)} ({found.wanted})")


@cache
def _fields(cls: Any) -> Mapping[str, Any]:
    """The annotations of a named tuple or a dataclass; other classes are looked at as a whole."""
    named = issubclass(cls, tuple) or dataclasses.is_dataclass(cls)
    return get_type_hints(cls, include_extras=True) if named else {}


def _wrong_type(hint: Any) -> Objection:
    return Objection(TypeError, spoken(hint))


def _bool(value: Any) -> Objection | None:
    return None if isinstance(value, bool) else _wrong_type(bool)


def _int(value: Any) -> Objection | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return _wrong_type(int)
    return None if -INT64_MAX <= value <= INT64_MAX else Objection(ValueError, "of 64 bits at most")


def _float(value: Any) -> Objection | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _wrong_type(float)
    return None if value == value else Objection(ValueError, "a number, which nan is not")


def _str(value: Any) -> Objection | None:
    if not isinstance(value, str):
        return _wrong_type(str)
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return Objection(ValueError, "text that UTF-8 can say, without lone surrogates")
    return None if size <= TEXT_BYTES_MAX else Objection(ValueError, f"of {TEXT_BYTES_MAX} bytes at most")


def _bytes(value: Any) -> Objection | None:
    return None if isinstance(value, bytes) else _wrong_type(bytes)


def _none(value: Any) -> Objection | None:
    return None if value is None else _wrong_type(None)


_SCALARS: Final[Mapping[Any, Callable[[Any], Objection | None]]] = {
    bool: _bool, int: _int, float: _float, str: _str, bytes: _bytes, type(None): _none,
}  # fmt: skip
_CALLABLE: Final = get_origin(Callable[[], None])
_NAMES: Final = {
    bool: "True or False", int: "a whole number", float: "a number", str: "a string", bytes: "bytes",
    type(None): "None", None: "None", Any: "anything",
}  # fmt: skip


def spoken(hint: Any) -> str:
    """An annotation in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in _NAMES:
        return _NAMES[hint]
    if origin in (Union, types.UnionType):
        return " or ".join(map(spoken, arguments))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is tuple and arguments[1:] != (...,):
        return f"a tuple ({', '.join(map(spoken, arguments))})"
    if origin is tuple:
        return f"a tuple, each {spoken(arguments[0])}"
    if origin is _CALLABLE:
        return "a function"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"a mapping of {spoken(arguments[0])} to {spoken(arguments[1])}"
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return f"a list, each {spoken(arguments[0])}"
    if isinstance(hint, type) and issubclass(hint, tuple):
        return f"{hint.__name__}({', '.join(_fields(hint))})"
    return f"a {getattr(hint, '__name__', hint)}"


def demand(where: str, value: Any, hint: Any) -> Any:
    """The value, as the call will have it; raises TypeError or ValueError when it is not what `hint` says."""
    value = _prepared(value, hint)
    found = objection(value, hint)
    if found is not None:
        raise found.error(f"{where} must be {found.wanted}, not {described(value)}")
    return value


def flat(names: Iterable[str | Iterable[str]]) -> tuple[str, ...]:
    """Names, given one by one or in lists."""
    return tuple(one for name in names for one in ([name] if isinstance(name, str) else name))


def described(value: Any) -> str:
    """A value in an error: its type, and itself where that is short and no secret of a record."""
    kind = type(value).__name__
    return f"{kind} {value!r}" if isinstance(value, int | float) and -1e20 < value < 1e20 else kind


def _prepared(value: Any, hint: Any) -> Any:
    """Plain tuples as the named tuples that they stand for, iterators as lists."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return next(
            (found for one in arguments if (found := _prepared(value, one)) is not value),
            value,
        )
    if isinstance(hint, type) and issubclass(hint, tuple) and type(value) is tuple:
        return hint(*value) if len(value) == len(_fields(hint)) else value
    if isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {_prepared(key, arguments[0]): one for key, one in value.items()}
    iterable = isinstance(origin, type) and origin is not tuple and issubclass(origin, Iterable)
    if iterable and isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | Mapping):
        return [_prepared(one, arguments[0]) for one in value]
    return value


def checked(*by_hand: str) -> Callable[[C], C]:
    """Have every public method of a class check what it is given; those that are named do it by themselves,
    or are asked by parts of the client alone."""

    def decorate(cls: C) -> C:
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and not name.startswith("_") and name not in by_hand:
                setattr(cls, name, _checking(method))
        return cls

    return decorate


def _checking(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)
    _, *parameters = signature.parameters.values()
    if not any(one.kind is not one.VAR_KEYWORD for one in parameters):
        return method
    hints: dict[str, Any] = {}  # worked out at the first call, when every module is there

    def bound(args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        if not hints:
            hints.update(get_type_hints(method, include_extras=True))
        given = signature.bind(*args, **kwargs)
        for parameter in parameters:
            name = parameter.name
            if name not in given.arguments or parameter.kind is parameter.VAR_KEYWORD:
                continue
            hint = hints[name]
            if parameter.kind is parameter.VAR_POSITIONAL:
                where = f"{method.__qualname__}: each of {name}"
                given.arguments[name] = tuple(demand(where, one, hint) for one in given.arguments[name])
            else:
                where = f"{method.__qualname__}: {name}"
                given.arguments[name] = demand(where, given.arguments[name], hint)
        return given

    if inspect.iscoroutinefunction(method):

        @wraps(method)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            given = bound(args, kwargs)
            return await method(*given.args, **given.kwargs)

        return call_async

    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = bound(args, kwargs)
        return method(*given.args, **given.kwargs)

    return call
