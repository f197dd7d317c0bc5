"""The types of keys and values, for type checkers: bytes, unless functions make them of something else.

`Producer` alone is a producer of bytes, `Producer[str, Order]` one whose serializers take a str and an Order.
A function that says nothing of its types, as a lambda does, takes and gives Any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

Bytes: TypeAlias = bytes | bytearray | memoryview
"""What is written as it is."""

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # of the checker's own: PEP 696 came with Python 3.13

    K = TypeVar("K", default=Any)
    V = TypeVar("V", default=Any)
    K_contra = TypeVar("K_contra", contravariant=True, default=Bytes)
    V_contra = TypeVar("V_contra", contravariant=True, default=Bytes)
    K_co = TypeVar("K_co", covariant=True, default=bytes)
    V_co = TypeVar("V_co", covariant=True, default=bytes)
else:
    from typing import TypeVar

    K, V = TypeVar("K"), TypeVar("V")
    K_contra, V_contra = TypeVar("K_contra", contravariant=True), TypeVar("V_contra", contravariant=True)
    K_co, V_co = TypeVar("K_co", covariant=True), TypeVar("V_co", covariant=True)
