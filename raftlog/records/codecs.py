"""The compression of a batch's records: what Kafka's clients write, and all that they read.

Decides how bytes are framed for each codec and how much a decompression may put out. Knows nothing of
records. Invariants: no decompression allocates more than about its `max_output`, whatever the input
claims about its own size; a stream that is cut off or damaged raises CorruptBatch and nothing else.

    gzip     RFC 1952, members may follow one another
    snappy   written in the xerial framing, as the Java client does; the raw format (librdkafka) is read too
    lz4      the frame format with independent blocks (KIP-57); frames may follow one another
    zstd     RFC 8878; frames may follow one another
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Final, TypeAlias, assert_never

import cramjam

from raftlog.errors import CorruptBatch
from raftlog.records.batch import Codec

Buffer: TypeAlias = bytes | bytearray | memoryview

OUTPUT_MAX: Final = 64 * 1024 * 1024
"""Bytes that a batch may decompress to when the caller names no other bound. A batch is at most about
1 MiB on the wire by default; 64 times that holds any honest ratio of a log and no bomb."""


class OutputTooLarge(CorruptBatch):
    """Records that decompress to more than the caller allows; they may be sound otherwise."""


_FIRST_OUTPUT: Final = 4096
_FIRST_RATIO: Final = 4
_OUTPUT_GROWTH: Final = 8
"""How the output buffer is guessed: a multiple of the input, then eightfold, so that a stream costs at
most two or three attempts and a short batch never touches megabytes."""

_END_MARK: Final = bytes.fromhex("c65a0d9137e24b8ff01e6d29a4735cb8")  # as good as random

_GZIP_WINDOW_BITS: Final = 31  # zlib's way to ask for a gzip header and 32 KiB of window
_GZIP_LEVEL: Final = 6
_LZ4_LEVEL: Final = 1
_ZSTD_LEVEL: Final = 3

# Written by snappy-java's SnappyOutputStream: a magic, a version, the lowest version that can read it.
_XERIAL_MAGIC: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = _XERIAL_MAGIC + struct.pack(">ii", 1, 1)
_XERIAL_BLOCK: Final = 32 * 1024
_SNAPPY_RATIO_MAX: Final = 22
"""A snappy copy of three bytes puts out 64 at most, so a block that claims more than that lies."""
_LENGTH = struct.Struct(">I")


def compress(codec: Codec, data: Buffer, level: int | None = None) -> bytes:
    """`data` compressed; `level` means what it means to the codec (KIP-390), snappy has none."""
    match codec:
        case Codec.NONE:
            return bytes(data)
        case Codec.GZIP:
            packer = zlib.compressobj(
                _GZIP_LEVEL if level is None else level, zlib.DEFLATED, _GZIP_WINDOW_BITS
            )
            return packer.compress(data) + packer.flush()
        case Codec.SNAPPY:
            return _compress_xerial(data)
        case Codec.LZ4:
            lz4 = cramjam.lz4.Compressor(
                level=_LZ4_LEVEL if level is None else level, content_checksum=False, block_linked=False
            )
            lz4.compress(bytes(data))  # it takes nothing else
            return bytes(lz4.finish())
        case Codec.ZSTD:
            return bytes(cramjam.zstd.compress(data, level=_ZSTD_LEVEL if level is None else level))
        case _:
            assert_never(codec)


def decompress(codec: Codec, data: Buffer, max_output: int = OUTPUT_MAX) -> bytes:
    """What `data` was compressed from, at most `max_output` bytes of it.

    Raises CorruptBatch when the stream is cut off, damaged, followed by something else, or larger.
    """
    match codec:
        case Codec.NONE:
            if len(data) > max_output:
                raise _too_large(codec, max_output)
            return bytes(data)
        case Codec.GZIP:
            return _decompress_into(codec, cramjam.gzip.decompress_into, data, max_output)
        case Codec.SNAPPY:
            return _decompress_snappy(data, max_output)
        case Codec.LZ4:
            return _decompress_into(codec, cramjam.lz4.decompress_into, data, max_output)
        case Codec.ZSTD:
            return _decompress_into(codec, cramjam.zstd.decompress_into, data, max_output)
        case _:
            assert_never(codec)


def _too_large(codec: Codec, max_output: int) -> OutputTooLarge:
    return OutputTooLarge(f"{codec.name.lower()} records decompress to more than {max_output} bytes")


def _decompress_into(codec: Codec, into: Callable[[Any, Any], int], data: Buffer, max_output: int) -> bytes:
    """Decompress into a buffer that is guessed and grown, since what a frame says of its size is a claim.

    cramjam tells a full buffer from a damaged stream only by the words of its message, so the buffer ends
    in a mark: while that stands, a larger buffer would fail at the same byte.
    """
    size = min(max(len(data) * _FIRST_RATIO, _FIRST_OUTPUT), max_output)
    while True:
        output = bytearray(size)
        mark = _END_MARK[:size]
        output[size - len(mark) :] = mark
        try:
            written = into(data, output)
        except cramjam.DecompressionError as error:
            if output.endswith(mark):
                raise CorruptBatch(f"{codec.name.lower()} records: {error}") from None
            if size == max_output:
                raise _too_large(codec, max_output) from None
            size = min(size * _OUTPUT_GROWTH, max_output)
        else:
            return bytes(memoryview(output)[:written])


def _compress_xerial(data: Buffer) -> bytes:
    view = memoryview(data)
    parts = [_XERIAL_HEADER]
    for start in range(0, len(view), _XERIAL_BLOCK):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK]))
        parts += (_LENGTH.pack(len(block)), block)
    return b"".join(parts)


def _decompress_snappy(data: Buffer, max_output: int) -> bytes:
    view = memoryview(data)
    # Only the magic is asked for: some producers write the two versions in little-endian.
    if bytes(view[: len(_XERIAL_MAGIC)]) != _XERIAL_MAGIC:
        return _decompress_snappy_block(view, max_output, max_output)
    parts: list[bytes] = []
    room, position, end = max_output, len(_XERIAL_HEADER), len(view)
    if end < position:
        raise CorruptBatch("snappy records are cut off in the xerial header")
    while position < end:
        if end - position < _LENGTH.size:
            raise CorruptBatch("snappy records are cut off in a block's length")
        (length,) = _LENGTH.unpack_from(view, position)
        position += _LENGTH.size
        if length > end - position:
            raise CorruptBatch(f"a snappy block of {length} bytes where {end - position} are left")
        part = _decompress_snappy_block(view[position : position + length], room, max_output)
        parts.append(part)
        room -= len(part)
        position += length
    return b"".join(parts)


def _decompress_snappy_block(block: memoryview, room: int, max_output: int) -> bytes:
    """One block, of which `room` bytes are left of `max_output`."""
    if not block:
        raise CorruptBatch("an empty snappy block")
    try:
        size = cramjam.snappy.decompress_raw_len(block)
        if size > len(block) * _SNAPPY_RATIO_MAX:
            raise CorruptBatch(f"a snappy block of {len(block)} bytes claims to hold {size}")
        if size > room:
            raise _too_large(Codec.SNAPPY, max_output)
        output = bytearray(size)
        written = cramjam.snappy.decompress_raw_into(block, output)
    except cramjam.DecompressionError as error:
        raise CorruptBatch(f"snappy records: {error}") from None
    if written != size:
        raise CorruptBatch(f"a snappy block of {written} bytes that claims {size}")
    return bytes(output)
