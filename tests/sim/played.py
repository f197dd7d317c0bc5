"""What a seed plays, as a hash: the code of raftlog and of the simulator, without comments and docstrings. So
whoever mends a word need not count seeds from the beginning. The hash is the same under each Python."""

from __future__ import annotations

import ast
import hashlib
import io
import sys
import tokenize
from collections import defaultdict
from pathlib import Path
from typing import Final

NOT_PLAYED: Final = ("tests.sim.__main__", __name__)
"""They say what was played."""


def hash_of_played() -> str:
    """Of every module of this project that is loaded: the simulator's own, and the parts of a broker."""
    digest = hashlib.sha256()
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path is None or name in NOT_PLAYED or name.partition(".")[0] not in ("raftlog", "tests"):
            continue
        code = without_words(Path(path).read_text(encoding="utf-8"))
        digest.update(f"{name}\0{code}\0".encode())
    return digest.hexdigest()[:12]


def without_words(source: str) -> str:
    """The lines that have something but comments and strings that stand for themselves."""
    lines = source.split("\n")
    cuts: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            cuts[token.start[0] - 1].append((token.start[1], token.end[1]))
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            _cut(cuts, lines, node)
    for number, spans in cuts.items():
        for begin, end in sorted(spans, reverse=True):
            lines[number] = lines[number][:begin] + lines[number][end:]
    return "\n".join(filter(None, map(str.rstrip, lines)))


def _cut(cuts: dict[int, list[tuple[int, int]]], lines: list[str], node: ast.Expr) -> None:
    """Note what the node takes of each line. Its columns count bytes."""
    assert node.end_lineno is not None and node.end_col_offset is not None
    for number in range(node.lineno - 1, node.end_lineno):
        line = lines[number].encode()
        begin = node.col_offset if number == node.lineno - 1 else 0
        end = node.end_col_offset if number == node.end_lineno - 1 else len(line)
        cuts[number].append((len(line[:begin].decode()), len(line[:end].decode())))
