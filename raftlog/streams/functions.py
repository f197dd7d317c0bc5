"""Functions as an app's author writes them, made into functions of key and value."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from raftlog.streams.errors import TopologyError


def unless_none(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda key, value: None if value is None else function(key, value)


def of_both(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    """A function of key and value, whatever its author wrote."""
    try:
        names = [
            parameter.name
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
    except (TypeError, ValueError):  # built in, such as str.lower
        names = ["value"]
    if names == ["key", "value"]:
        return function
    if len(names) > 1:
        raise TopologyError(
            f"{function!r} takes {', '.join(names)}: it gets the value, or both as `key, value`"
        )
    return lambda key, value: function(value)
