"""python -m chaos: play scenarios, judge histories.

Exit code 0: all that was played is good. 1: something is wrong or could not be judged. 2: it could not run.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from chaos.access import check_secured
from chaos.campaign import Campaign
from chaos.checkers import Judgement, judge
from chaos.compose import check_compose
from chaos.faults.fault import CannotRun
from chaos.history import History, NotAHistory
from chaos.planted import RUNS_MAX, SHOWN_IN, find
from chaos.report.page import as_page
from chaos.report.sums import keep, sum_up
from chaos.report.text import as_data, as_text
from chaos.runner import RATE, Options, Result, run
from chaos.scenarios import SCENARIOS, Scenario
from chaos.workloads import find_workload

REQUIRE: Final = "RAFTLOG_TEST_REQUIRE"
"""`all`: what this machine cannot run is a failure, as in CI."""
SECURED: Final = "clients log in, in TLS, and rules allow what they do; brokers have a secret"
COULD_NOT: Final = 2
TERMINATED: Final = 143


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("list", help="scenarios, and what this machine cannot run")
    command.set_defaults(call=show)
    command = commands.add_parser("run", help="play scenarios, and write a report of each")
    command.add_argument("--scenario", required=True, help="names, with commas between, or all")
    command.add_argument("--time", type=float, help="seconds of faults for each (default: the scenario's)")
    command.add_argument("--seed", type=int, help="of an earlier run, for the same faults")
    command.add_argument("--runs", type=int, default=1, help="of each, with seeds that follow one another")
    command.add_argument(
        "--workload", default="", help="another than the scenario's; your own as module:Class"
    )
    command.add_argument("--rate", type=float, default=RATE, help="records a second of all producers")
    command.add_argument("--plant", default="", help="a bug of raftlog.testing.plants to be found")
    where = command.add_mutually_exclusive_group()
    where.add_argument("--secured", action="store_true", help=SECURED)
    where.add_argument(
        "--compose",
        type=Path,
        nargs="?",
        const=Path("docker-compose.yml"),
        help="play with the containers of the profile chaos of this file, or of ./docker-compose.yml",
    )
    command.add_argument("--out", type=Path, default=Path("chaos-runs"), help="for the reports")
    command.add_argument("--keep", action="store_true", help="the brokers' data, also of good runs")
    command.set_defaults(call=play)
    command = commands.add_parser("check", help="judge a history again")
    command.add_argument("history", type=Path)
    command.add_argument("--page", type=Path, help="write the page, too")
    command.set_defaults(call=check)
    command = commands.add_parser("planted", help="whether bugs that are planted are found, and how soon")
    command.add_argument("names", nargs="*", help="of bugs; without one, all that chaos can find")
    command.add_argument("--runs", type=int, default=RUNS_MAX, help="at most, for each")
    command.add_argument("--seed", type=int, default=0, help="of the first run")
    command.add_argument("--out", type=Path, default=Path("chaos-runs"), help="for the reports")
    command.set_defaults(call=find_planted)
    command = commands.add_parser(
        "campaign", help="hours of scenarios that a seed draws; goes on where it was"
    )
    command.add_argument("--hours", type=float, default=3.0, help="of histories, in all")
    command.add_argument("--seed", type=int, required=True, help="the same one, to go on")
    command.add_argument("--jobs", type=int, default=1, help="runs at a time")
    command.add_argument(
        "--rate", type=float, default=RATE, help="records a second of all producers of a run"
    )
    command.add_argument("--secured", action="store_true", help=SECURED)
    command.add_argument("--minutes", type=float, default=float("inf"), help="begin no run after that time")
    command.add_argument("--out", type=Path, default=Path("chaos-campaign"), help="for the reports")
    earlier = "folders of runs that count as well, or files that `sum --keep` made"
    command.add_argument("--also", type=Path, nargs="+", default=[], help=earlier)
    command.set_defaults(call=go_on)
    command = commands.add_parser("sum", help="what many runs came to")
    command.add_argument("places", type=Path, nargs="+", help="folders of runs, or files that --keep made")
    command.add_argument("--keep", type=Path, help="write the runs into this file, to sum them later")
    command.set_defaults(call=add_up)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # brokers and namespaces end with this
    code: int = arguments.call(arguments)
    return code


def show(_: argparse.Namespace) -> int:
    for one in sorted(SCENARIOS.values(), key=lambda each: (each.number, each.name)):
        why = why_not(one)
        print(f"{one.number:>3} {one.name:<20} {one.what}" + (f" [{why}]" if why else ""))
    return 0


def why_not(one: Scenario, *, in_containers: bool = False, secured: bool = False) -> str:
    """Why a scenario cannot be played here, or nothing."""
    try:
        check_compose(one.wants) if in_containers else one.wants.check()
        if secured:
            check_secured()
    except CannotRun as error:
        return f"cannot run here: {error}"
    return ""


def play(arguments: argparse.Namespace) -> int:
    try:
        chosen = list(_chosen(arguments.scenario))
        if arguments.workload:
            find_workload(arguments.workload)
    except ValueError as error:
        print(error, file=sys.stderr)
        return COULD_NOT
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1_000_000)
    worst = 0
    for number in range(arguments.runs):
        for one in chosen:
            if why := why_not(one, in_containers=arguments.compose is not None, secured=arguments.secured):
                print(f"SKIPPED  {one.name}: {why}", flush=True)
                if os.environ.get(REQUIRE) == "all":
                    worst = 1
                continue
            options = Options(
                scenario=one,
                seed=seed + number,
                seconds=arguments.time or one.seconds,
                workload=arguments.workload,
                plant=arguments.plant,
                secured=arguments.secured,
                rate=arguments.rate,
                compose=arguments.compose,
            )
            worst = max(worst, play_one(options, arguments.out, keep=arguments.keep))
    return worst


def _chosen(names: str) -> Iterator[Scenario]:
    if names == "all":
        yield from SCENARIOS.values()
        return
    for name in names.split(","):
        if name not in SCENARIOS:
            raise ValueError(f"{name} is no scenario: {', '.join(SCENARIOS)}")
        yield SCENARIOS[name]


def play_one(options: Options, out: Path, *, keep: bool = False) -> int:
    """Play, print and write the report; the exit code. The brokers' data stays when something is wrong."""
    secured = "-secured" if options.secured else ""
    folder = out / f"{options.scenario.name}-{options.seed}{secured}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="raftlog-chaos-") as temporary:
        data = Path(temporary) / "data"
        result = run(options, data)
        is_good = result.verdict.judgement is Judgement.GOOD
        if keep or not is_good:
            shutil.copytree(data, folder / "data", ignore_dangling_symlinks=True, dirs_exist_ok=True)
    write(result, folder)
    print(as_text(result.history, result.verdict), f"page:  {folder / 'report.html'}", sep="\n", flush=True)
    return 0 if is_good else 1


def write(result: Result, folder: Path) -> None:
    """The history, the verdict, and the page that shows both."""
    result.history.save(folder / "history.jsonl.gz")
    (folder / "verdict.json").write_text(json.dumps(as_data(result.history, result.verdict), indent=1))
    (folder / "report.txt").write_text(as_text(result.history, result.verdict))
    (folder / "report.html").write_text(as_page(result.history, result.verdict, result.logs))


def find_planted(arguments: argparse.Namespace) -> int:
    """The table of docs/chaos.md."""
    print("| planted bug | runs until found | scenario, seed | what did not hold |")
    print("|---|---|---|---|", flush=True)
    missed = 0
    for name in arguments.names or SHOWN_IN:
        found = find(name, runs_max=arguments.runs, first_seed=arguments.seed)
        if found is None:
            missed += 1
            print(f"| {name} | not in {arguments.runs} | {', '.join(SHOWN_IN[name])} | |", flush=True)
            continue
        folder = arguments.out / f"planted-{name.replace(' ', '-')}"
        folder.mkdir(parents=True, exist_ok=True)
        write(found.result, folder)
        properties = ", ".join(found.properties)
        print(f"| {name} | {found.runs} | {found.scenario}, {found.seed} | {properties} |", flush=True)
    return 1 if missed else 0


def go_on(arguments: argparse.Namespace) -> int:
    """A campaign, and what all its runs came to."""
    scenarios = [one for one in SCENARIOS.values() if not why_not(one, secured=arguments.secured)]
    for one in SCENARIOS.values():
        if why := why_not(one, secured=arguments.secured):
            print(f"SKIPPED  {one.name}: {why}", flush=True)
    until = time.monotonic() + 60 * arguments.minutes
    say = functools.partial(print, flush=True)
    campaign = Campaign(
        scenarios,
        arguments.seed,
        arguments.out,
        hours=arguments.hours,
        until=until,
        rate=arguments.rate,
        secured=arguments.secured,
        say=say,
        earlier=arguments.also,
    )
    try:
        campaign.play(arguments.jobs)
    finally:  # also when it is interrupted
        print(sum_up(campaign.places))
        for drawn in campaign.bad:
            print(f"NOT GOOD  {arguments.out / drawn.folder}: {drawn.scenario}, seed {drawn.seed}")
    return 1 if campaign.bad else 0


def add_up(arguments: argparse.Namespace) -> int:
    if arguments.keep is not None:
        keep(arguments.places, arguments.keep)
    print(sum_up(arguments.places))
    return 0


def check(arguments: argparse.Namespace) -> int:
    try:
        history = History.load(arguments.history)
    except (OSError, NotAHistory) as error:
        print(error, file=sys.stderr)
        return COULD_NOT
    try:
        own = find_workload(history.head.workload).checkers if history.head.workload else ()
    except ValueError:
        own = ()  # somebody's own, which is not here: what always holds is checked
    verdict = judge(history, own)
    print(as_text(history, verdict))
    if arguments.page is not None:
        arguments.page.write_text(as_page(history, verdict, {}))
    return 0 if verdict.judgement is Judgement.GOOD else 1


if __name__ == "__main__":
    sys.exit(main())
