"""What `open_client`, `client.producer` and `client.consumer` give: something for `async with`, which says so
when it is used in another way."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, NoReturn, TypeVar

T = TypeVar("T", covariant=True)


class Opening(AbstractAsyncContextManager[T]):
    """`async with` gives a T. Entered once."""

    def __init__(self, manager: AbstractAsyncContextManager[T], how: str) -> None:
        """`how` is the `async with` as it should be written."""
        self._manager = manager
        self._how = how

    def __repr__(self) -> str:
        return f"<{self._how} …>"

    async def __aenter__(self) -> T:
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._manager.__aexit__(kind, error, trace)

    def __enter__(self) -> NoReturn:
        raise TypeError(f"`with` does not open this, `async with` does: {self._how}")

    def __exit__(self, *error: object) -> None:
        pass  # `with` looks whether it is there before it calls __enter__

    def __await__(self) -> Generator[Any, Any, NoReturn]:
        raise TypeError(f"`await` does not open this, `async with` does: {self._how}")

    def __aiter__(self) -> NoReturn:
        raise TypeError(f"this is not open yet: {self._how}")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"no attribute {name!r}: this is not open yet: {self._how}")
