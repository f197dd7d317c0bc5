"""What a log's folder is called when its name is longer than a file's may be.

A folder is called after its log, `topic-partition.id`. A topic's name may take 249 characters (Kafka) and a
file's 255 bytes (Linux), which leaves too little for the rest. So the middle of a long name gives way to a
`+`, which no topic's name holds; what identifies the log stands at the end and stays.
"""

from __future__ import annotations

from typing import Final

NAME_MAX: Final = 240
"""Bytes of a name before its suffix (`~2`): 255 less the room for twelve digits and some more."""
KEPT_TAIL: Final = 44
"""Characters of the end that stay: a partition's number, and the topic's id in hexadecimal."""
CUT: Final = "+"
FILE_NAME_MAX: Final = 255


def short_name(name: str) -> str:
    """`name`, or what is made of it when it is too long for a folder."""
    if len(name.encode()) <= NAME_MAX:
        return name
    tail = name[-KEPT_TAIL:]
    head = name[:-KEPT_TAIL].encode()[: NAME_MAX - len(CUT) - len(tail.encode())]
    return f"{head.decode(errors='ignore')}{CUT}{tail}"


def possible_name(folder: str) -> str:
    """The folder of a log that the write-ahead log calls `folder`. Older builds did not cut names, and none
    that no file can have was ever made."""
    if len(folder.encode()) <= FILE_NAME_MAX:
        return folder
    name, tilde, number = folder.partition("~")
    return short_name(name) + tilde + number


def could_be_of(folder: str, log: str) -> bool:
    """Whether `folder`, without its id, may be that of the log named `topic-partition`."""
    head, cut, tail = folder.rpartition(CUT)
    if not cut:
        return folder == log
    return len(log) > len(head) + len(tail) and log.startswith(head) and log.endswith(tail)
