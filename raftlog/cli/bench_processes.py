"""The CPU time of the brokers' processes, where they run on this machine, and of the machine (Linux: /proc).

Decides which processes listen at given ports. What cannot be read (another user's process, another
machine, another system) is left out, never an error: a benchmark without the brokers' CPU is still one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from typing import Final

_LISTEN: Final = "0A"  # the state column of /proc/net/tcp
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


def listening_inodes(table: str, ports: Iterable[int]) -> dict[str, int]:
    """Socket inode to port, for the sockets of `table` (/proc/net/tcp or tcp6) that listen at `ports`."""
    wanted, found = set(ports), {}
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 10 or fields[3] != _LISTEN:
            continue
        port = int(fields[1].rpartition(":")[2], 16)
        if port in wanted:
            found[fields[9]] = port
    return found


def cpu_ticks(stat: str) -> int:
    """User and system time of a process, in clock ticks, from its /proc/<pid>/stat.

    The second field is the command in brackets, which may hold blanks and brackets of its own.
    """
    fields = stat[stat.rindex(")") + 2 :].split()
    return int(fields[11]) + int(fields[12])


def is_local(host: str) -> bool:
    """Whether `host` names this machine by a loopback address."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False
    return bool(addresses) and all(str(a).startswith("127.") or a == "::1" for a in addresses)


def pids_listening(ports: Iterable[int]) -> list[int]:
    """The processes that listen at `ports` on this machine, as far as they may be seen."""
    ports = set(ports)
    inodes: dict[str, int] = {}
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        inodes |= listening_inodes(_read(path) or "", ports)
    if not inodes:
        return []
    return sorted(
        int(name) for name in os.listdir("/proc") if name.isdecimal() and _holds_socket(name, inodes)
    )


def _holds_socket(pid: str, inodes: Mapping[str, int]) -> bool:
    try:
        descriptors = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            return True
    return False


def cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    """CPU time of each process so far, in seconds; a process that is gone is left out."""
    return {
        pid: cpu_ticks(stat) / _TICKS_PER_SECOND
        for pid in pids
        if (stat := _read(f"/proc/{pid}/stat")) is not None
    }


def cpu_between(before: Mapping[int, float], after: Mapping[int, float]) -> dict[int, float]:
    """What each process that lived through both has used in between."""
    return {pid: after[pid] - seconds for pid, seconds in before.items() if pid in after}


def machine_seconds() -> tuple[float, float] | None:
    """CPU time of the whole machine so far, in seconds: what was used, and what there was. None where that
    cannot be read. Steal, time that a hypervisor gave to others, counts as used."""
    stat = _read("/proc/stat")
    return machine_ticks(stat) if stat is not None else None


def machine_ticks(stat: str) -> tuple[float, float]:
    """The same from the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal, and
    guests' time, which is in user already."""
    user, nice, system, idle, waiting, irq, softirq, steal = map(int, stat.split(maxsplit=9)[1:9])
    used = user + nice + system + irq + softirq + steal
    return used / _TICKS_PER_SECOND, (used + idle + waiting) / _TICKS_PER_SECOND


def _read(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None
