"""What an app's author holds: streams, windows, tables. A method that only another one has is told where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

INSTEAD: Final = {
    "Stream": "this is a stream of records already; count(), aggregate() and window() make more of them",
    "Windowed": "make something of the windows first: .count(NAME), .reduce(NAME, …) or .aggregate(NAME, …)",
    "Results": "its records are streams: .changes(), .final() and .late() have it",
    "Table": "the rows that change are a stream: .changes() has it",
}
"""How to come from each to what the others have."""


class Handle:
    """The base of all of them."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            kind = type(self).__name__
            said = f"{kind!r} object has no attribute {name!r}"
            others = Handle.__subclasses__()
            if not name.startswith("_") and any(hasattr(each, name) for each in others):
                said += f": {INSTEAD[kind]}"
            raise AttributeError(said, name=name, obj=self)
