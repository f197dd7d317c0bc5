"""What the process does that reads schemas: one question after the other from standard input, an answer each.

A schema is text that somebody sent, and parsing and comparing it may take more time or memory than there is.
So it is done here: a question has so many seconds of this processor's time, and the process so much memory.

A message is its length in four bytes, and JSON. `python -m raftlog.registry.work`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
from typing import IO, Any, Final

from raftlog.registry.formats import Invalid, Source, format_of

CPU_S: Final = 2.0
"""Anybody's schema takes milliseconds. Others wait meanwhile, longer where the machine has more to do."""
MEMORY_BYTES_MAX: Final = 2 << 30
LENGTH: Final = struct.Struct(">I")
WHYS_MAX: Final = 50
"""Reasons that an answer has: the first are enough."""
WHY_CHARACTERS_MAX: Final = 1000


class OutOfTime(BaseException):
    """Libraries catch exceptions of all sorts, and must not catch this."""


def main() -> None:
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the registry, which then closes the pipe
    signal.signal(signal.SIGPROF, _out_of_time)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (question := _read(inbox)) is not None:
        answer = json.dumps(_answer(question)).encode()
        outbox.write(LENGTH.pack(len(answer)) + answer)
        outbox.flush()


def _read(inbox: IO[bytes]) -> dict[str, Any] | None:
    head = inbox.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    body = inbox.read(LENGTH.unpack(head)[0])
    return json.loads(body)  # type: ignore[no-any-return]


def _out_of_time(number: int, frame: object) -> None:
    raise OutOfTime


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        try:
            signal.setitimer(signal.ITIMER_PROF, CPU_S)
            return _answered(question)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except OutOfTime:
        return {"invalid": f"it is too complex: reading it took more than {CPU_S:g} s"}
    except MemoryError:
        return {"invalid": "it is too complex: reading it took too much memory"}
    except RecursionError:
        return {"invalid": "it is nested too deeply"}
    except Invalid as error:
        return {"invalid": str(error)[:WHY_CHARACTERS_MAX]}
    except Exception as error:  # of a library that met what nobody had thought of
        print(f"{question['do']} of a {question['kind']} schema: {error!r}", file=sys.stderr, flush=True)
        return {"invalid": f"it could not be read: {type(error).__name__}: {error}"[:WHY_CHARACTERS_MAX]}


def _answered(question: dict[str, Any]) -> dict[str, Any]:
    found: Any = format_of(question["kind"])
    source = _source(question["source"])
    match question["do"]:
        case "canonical":
            return {"text": found.canonical(source, normalize=question["normalize"])}
        case "serialized":
            return {"text": found.serialized(source)}
        case "objections":
            whys = found.objections(source, _source(question["writer"]))
            return {"whys": [why[:WHY_CHARACTERS_MAX] for why in whys[:WHYS_MAX]]}
    raise AssertionError(question["do"])


def _source(said: list[Any]) -> Source:
    text, references = said
    return Source(text, tuple((name, one) for name, one in references))


if __name__ == "__main__":
    main()
