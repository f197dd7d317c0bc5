"""Every codec both ways, cut off, damaged, concatenated and as a bomb."""

from __future__ import annotations

import gzip
import random
import tracemalloc

import cramjam
import pytest

from raftlog.errors import CorruptBatch
from raftlog.records.batch import Codec
from raftlog.records.codecs import OutputTooLarge, compress, decompress

REAL = [codec for codec in Codec if codec is not Codec.NONE]
FRAMED = [Codec.GZIP, Codec.LZ4, Codec.ZSTD]
TEXT = b"".join(b'{"id": %d, "name": "order"}' % i for i in range(200))


@pytest.mark.parametrize("codec", Codec)
@pytest.mark.parametrize("data", [b"x", TEXT, bytes(100_000), random.Random(1).randbytes(100_000)])
def test_what_is_compressed_comes_back(codec: Codec, data: bytes) -> None:
    assert decompress(codec, compress(codec, data)) == data
    assert decompress(codec, memoryview(compress(codec, memoryview(bytearray(data))))) == data


@pytest.mark.parametrize("codec", Codec)
def test_nothing_compresses_to_nothing(codec: Codec) -> None:
    assert decompress(codec, compress(codec, b"")) == b""


@pytest.mark.parametrize("codec", [Codec.GZIP, Codec.LZ4, Codec.ZSTD])
def test_a_level_is_taken(codec: Codec) -> None:
    assert decompress(codec, compress(codec, TEXT, level=2)) == TEXT


@pytest.mark.parametrize("codec", REAL)
def test_the_bound_is_exact(codec: Codec) -> None:
    packed = compress(codec, TEXT)
    assert decompress(codec, packed, len(TEXT)) == TEXT
    with pytest.raises(OutputTooLarge):
        decompress(codec, packed, len(TEXT) - 1)


def test_the_bound_holds_without_a_codec() -> None:
    with pytest.raises(OutputTooLarge):
        decompress(Codec.NONE, TEXT, len(TEXT) - 1)


@pytest.mark.parametrize("codec", REAL)
def test_a_bomb_takes_no_more_memory_than_its_bound(codec: Codec) -> None:
    bound = 1024 * 1024
    bomb = compress(codec, bytes(64 * bound))
    tracemalloc.start()
    try:
        with pytest.raises(OutputTooLarge):
            decompress(codec, bomb, bound)
        assert tracemalloc.get_traced_memory()[1] < 3 * bound
    finally:
        tracemalloc.stop()


def test_a_raw_snappy_block_that_claims_gigabytes_is_refused_unallocated() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CorruptBatch, match="claims to hold 4294967295"):
            decompress(Codec.SNAPPY, b"\xff\xff\xff\xff\x0f" + bytes(20))
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", REAL)
def test_a_stream_cut_off_anywhere_is_corrupt(codec: Codec) -> None:
    packed = compress(codec, random.Random(2).randbytes(300) + bytes(300))
    accepted = []
    for end in range(len(packed)):
        try:
            decompress(codec, packed[:end])
        except CorruptBatch:
            continue
        accepted.append(end)
    # A xerial stream says nowhere how many blocks it has: after a whole block it may end.
    assert accepted == ([16] if codec is Codec.SNAPPY else [])


@pytest.mark.parametrize("codec", REAL)
def test_a_damaged_stream_is_corrupt_or_read_never_another_error(codec: Codec) -> None:
    packed, rng, caught = compress(codec, TEXT), random.Random(3), 0
    for _ in range(300):
        damaged = bytearray(packed)
        for _ in range(rng.randint(1, 4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            decompress(codec, damaged, 1024 * 1024)
        except CorruptBatch:
            caught += 1
    assert caught > 30


@pytest.mark.parametrize("codec", FRAMED)
def test_frames_that_follow_one_another_are_one_stream(codec: Codec) -> None:
    assert decompress(codec, compress(codec, b"one ") + compress(codec, b"two")) == b"one two"


@pytest.mark.parametrize("codec", FRAMED)
def test_bytes_that_are_no_frame_after_a_frame_are_corrupt(codec: Codec) -> None:
    with pytest.raises(CorruptBatch):
        decompress(codec, compress(codec, TEXT) + b"and more")


def test_snappy_is_written_in_the_java_framing() -> None:
    packed = compress(Codec.SNAPPY, bytes(40_000))
    assert packed.startswith(b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01")
    first = int.from_bytes(packed[16:20], "big")
    assert len(cramjam.snappy.decompress_raw(packed[20 : 20 + first])) == 32 * 1024


def test_snappy_is_read_raw_as_librdkafka_writes_it() -> None:
    assert decompress(Codec.SNAPPY, bytes(cramjam.snappy.compress_raw(TEXT))) == TEXT


def test_snappy_versions_in_little_endian_are_read() -> None:
    packed = bytearray(compress(Codec.SNAPPY, TEXT))
    packed[8:16] = b"\x01\x00\x00\x00\x01\x00\x00\x00"
    assert decompress(Codec.SNAPPY, packed) == TEXT


@pytest.mark.parametrize(
    "block",
    [b"\x00\x00\x00", b"\x00\x00\x00\x05abcd", b"\xff\xff\xff\xff", b"\x80\x00\x00\x00", bytes(4)],
    ids=["length cut off", "block cut off", "length -1", "length -2**31", "empty block"],
)
def test_a_xerial_block_that_lies_is_corrupt(block: bytes) -> None:
    with pytest.raises(CorruptBatch):
        decompress(Codec.SNAPPY, compress(Codec.SNAPPY, TEXT) + block)


def test_gzip_of_the_standard_library_is_read() -> None:
    assert decompress(Codec.GZIP, gzip.compress(TEXT)) == TEXT
    assert gzip.decompress(compress(Codec.GZIP, TEXT)) == TEXT


def test_lz4_blocks_are_independent_as_kip_57_wants() -> None:
    assert compress(Codec.LZ4, bytes(200_000))[4] & 0x20
    linked = cramjam.lz4.Compressor(content_checksum=True, block_linked=True)
    linked.compress(TEXT * 100)
    assert decompress(Codec.LZ4, bytes(linked.finish())) == TEXT * 100
