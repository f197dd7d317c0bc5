"""`python -m tests.deny`: see the package."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from raftlog.config.table import STANDARD_AUTHORIZER
from raftlog.testing.cluster import EmbeddedCluster, running_cluster
from tests.deny import credentials
from tests.deny.administering import Administrator
from tests.deny.clients import (
    ADMIN_HOST,
    BUSY,
    DENIED_HOST,
    PARTITIONS,
    QUIET,
    TOPIC,
    Denied,
    Loop,
    Wire,
    create_acls,
    now,
    produce,
    rule,
)
from tests.deny.clocks import odd_brokers
from tests.deny.cue import Cue
from tests.deny.faults import Faults
from tests.deny.judge import Op, Register, violations
from tests.deny.late import late_networks
from tests.deny.planted import PLANTS, planted
from tests.deny.results import Result, add_to, total_of

REGISTERS: Final = ("denies", "credentials")
PIECE_S: Final = 240.0
"""After so long a cluster is replaced by a new one with another seed, and the registers take turns."""
DEALS: Final = ("write", "look", "describe", "read", "wait")
"""What the denied one does at each broker, side by side."""


class Changing(Protocol):
    """An administrator."""

    turns: int
    unknown: int
    slowest: float

    def run(self, stop: threading.Event) -> None: ...


class Play(NamedTuple):
    """Who plays, and what came of it."""

    admin: Changing
    acting: list[Denied] | list[credentials.Owner]
    loops: list[Loop]
    violations: Callable[[], Iterator[str]]
    succeeded: Callable[[], int]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.deny", description=__doc__)
    parser.add_argument("--register", choices=REGISTERS, help="one of them; else they take turns")
    parser.add_argument("--seconds", type=float, default=60.0, help="of all pieces, or of each plant")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--plant", help="a bug of the register that must be found, or `all` in turn")
    parser.add_argument(
        "--results", type=Path, help="a file of pieces: new ones are added, and all summed up"
    )
    chosen = parser.parse_args(arguments)
    seed = chosen.seed if chosen.seed is not None else random.randrange(1 << 32)
    registers = REGISTERS if chosen.register is None else (chosen.register,)
    if chosen.plant is not None:
        return _look_for(registers, chosen.plant, seed, chosen.seconds)
    return _pieces(registers, seed, chosen.seconds, chosen.results)


def _pieces(registers: tuple[str, ...], seed: int, seconds: float, file: Path | None) -> int:
    """Exit code 1 for a violation, also for one in a piece that the file had before."""
    results: list[Result] = []
    count = max(len(registers), round(seconds / PIECE_S))
    for number in range(count):
        result = play(registers[number % len(registers)], seed + number, seconds=seconds / count)
        results.append(result)
        print(result.told(), flush=True)
        if file is not None:
            add_to(file, result)
    total = total_of(results, file)
    print(total.told(), flush=True)
    return 1 if total.violations else 0


def _look_for(registers: tuple[str, ...], plant: str, seed: int, seconds: float) -> int:
    """Exit code 1 when a bug was not found."""
    missed = 0
    for register in registers:
        for bug in sorted(PLANTS[register]) if plant == "all" else [plant]:
            with planted(register, bug):
                found = play(register, seed, seconds=seconds, stop_at_first=True)
            print(found.told())
            after = f"found after {found.seconds:.0f} s" if found.violations else "NOT FOUND"
            print(f"planted in {register}: {bug}: {after}", flush=True)
            missed += not found.violations
    return 1 if missed else 0


def play(register: str, seed: int, *, seconds: float, stop_at_first: bool = False) -> Result:
    """One piece, with a cluster of its own."""
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        settings: dict[str, Any] = {"num_partitions": 1}
        if register == "denies":
            settings |= {"authorizer_class_name": STANDARD_AUTHORIZER, "allow_everyone_if_no_acl_found": True}
        else:
            settings |= credentials.settings(folder)
        opened.enter_context(late_networks())
        opened.enter_context(odd_brokers(random.Random(f"clocks/{seed}")))
        cluster = opened.enter_context(running_cluster(3, seed=seed, **settings))
        cluster.create_topic(TOPIC, PARTITIONS, 3)
        stop, cue = threading.Event(), Cue()
        made = (_denies if register == "denies" else _passwords)(cluster, seed, stop, cue)
        faults = Faults(cluster, cue, random.Random(seed))
        took = _play(made, faults, seconds, stop, stop_at_first=stop_at_first)
        return Result(
            register=register,
            seed=seed,
            seconds=took,
            calls=sum(each.tried for each in made.acting),
            checks=sum(each.checked for each in made.acting),
            succeeded=made.succeeded(),
            changes=made.admin.turns,
            unknown=made.admin.unknown,
            slowest=made.admin.slowest,
            faults=dict(faults.done),
            violations=list(made.violations()),
        )


def _play(made: Play, faults: Faults, seconds: float, stop: threading.Event, *, stop_at_first: bool) -> float:
    """How long it took."""
    threads = [*made.loops, threading.Thread(target=made.admin.run, args=(stop,), daemon=True)]
    for thread in threads:
        thread.start()
    began = now()
    try:
        while now() < began + seconds:
            faults.one()
            time.sleep(faults.rng.uniform(0.0, 0.5))
            if stop_at_first and next(made.violations(), None) is not None:
                break
    finally:
        took = now() - began
        stop.set()
        faults.cluster.faults.heal()
        faults.cluster.faults.resume()
        for thread in threads:
            thread.join(30)
    for loop in made.loops:
        if loop.failure is not None:
            raise loop.failure
    return took


def _denies(cluster: EmbeddedCluster, seed: int, stop: threading.Event, cue: Cue) -> Play:
    """Somebody is denied and allowed by turns."""
    begin = Wire(cluster.brokers[0].port, ADMIN_HOST)
    create_acls(
        begin,
        rule(ADMIN_HOST, 3, kind=4, name="kafka-cluster"),
        rule(ADMIN_HOST, 3),
        rule(DENIED_HOST, 3),
    )
    begin.close()
    ops: list[Op] = []
    register, ports = Register(), [broker.port for broker in cluster.brokers]
    acting: list[Denied] = []
    loops: list[Loop] = []
    for number, port in enumerate(ports, 1):
        for what in DEALS:
            rng = random.Random(f"{len(acting)}/{seed}")
            acting.append(Denied(number, ops, rng, lambda at: register.window_of(at) is not None))
            loops.append(Loop(partial(Wire, port, DENIED_HOST), getattr(acting[-1], what), stop))
        loops += _writers(partial(Wire, port, ADMIN_HOST), f"w{port}/{seed}", stop)
    return Play(
        Administrator(ports, register, random.Random(f"admin/{seed}"), cue),
        acting,
        loops,
        lambda: violations(register, list(ops)),
        lambda: len(ops),
    )


def _passwords(cluster: EmbeddedCluster, seed: int, stop: threading.Event, cue: Cue) -> Play:
    """Somebody's password is changed and taken away."""
    passwords, ports = credentials.Passwords(), [broker.port for broker in cluster.brokers]
    owners: list[credentials.Owner] = []
    loops: list[Loop] = []
    for number, port in enumerate(ports, 1):
        for what in (*DEALS, "leave"):
            rng = random.Random(f"{len(owners)}/{seed}")
            owner = credentials.Owner(number, port, passwords, rng, len(owners))
            owners.append(owner)
            connect = owner.open_any if what == "leave" else owner.open_newest
            loops.append(Loop(connect, owner.leave if what == "leave" else owner.step(what), stop))
        log_in = partial(credentials.Session, port, ADMIN_HOST, credentials.ADMIN, credentials.ADMIN_PASSWORD)
        loops += _writers(log_in, f"w{port}/{seed}", stop)
    return Play(
        credentials.PasswordAdministrator(ports, passwords, random.Random(f"admin/{seed}"), cue),
        owners,
        loops,
        passwords.violations,
        lambda: sum(map(len, list(passwords.ops.values()))),
    )


def _writers(connect: Callable[[], Wire], seed: str, stop: threading.Event) -> list[Loop]:
    """They write as the administrator, whose records say when their writing began."""
    rng = random.Random(seed)

    def write_often(wire: Wire) -> float:
        produce(wire, rng.choice(BUSY), now())
        return rng.uniform(0, 0.03)

    def write_seldom(wire: Wire) -> float:
        produce(wire, rng.choice(QUIET), now())
        return rng.uniform(0.3, 1.5)

    return [Loop(connect, write_often, stop), Loop(connect, write_seldom, stop)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
