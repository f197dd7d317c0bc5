"""Clients name the cause of a refusal where docs/guides/refusals.md says so: the Python clients' part. A line
of that page may differ from today's in what a client words differently from one run to the next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.docs.story import ROOT
from tests.security.refusals import CLIENTS, MISTAKES, PYTHON, Mistake, World, named, play, said

pytestmark = [pytest.mark.compat, pytest.mark.slow, pytest.mark.long, pytest.mark.xdist_group("refusals")]

AT_ONCE = 8
Printed = dict[tuple[Mistake, str], str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with World(tmp_path_factory.mktemp("refusals")) as world:
        yield world


@pytest.fixture(scope="module")
def printed(world: World) -> Printed:
    """Many at once: most of it is waiting."""
    pairs = list(product(MISTAKES, PYTHON))

    def one(pair: tuple[Mistake, str]) -> str:
        mistake, client = pair
        if mistake.place == "expired":
            world.wait_for_expiry()
        return play(world, mistake, client) or ""

    with ThreadPoolExecutor(AT_ONCE) as pool:
        last = sorted(pairs, key=lambda pair: pair[0].place == "expired")
        return dict(zip(last, pool.map(one, last), strict=True))


@pytest.mark.parametrize("client", PYTHON)
@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_client_names_the_cause(printed: Printed, mistake: Mistake, client: str) -> None:
    line, is_told = named(mistake, printed[mistake, client])
    assert is_told == (client not in mistake.silent), f"{line}\n{printed[mistake, client][-2000:]}"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_broker_names_the_cause(world: World, printed: Printed, mistake: Mistake) -> None:
    assert said(mistake, world.log_of(mistake)), world.log_of(mistake)[-3000:]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_the_page_has_a_line_of_each_client_and_of_the_broker(mistake: Mistake) -> None:
    page = (ROOT / "docs" / "guides" / "refusals.md").read_text(encoding="utf-8")
    (section,) = [
        part for part in page.split("\n## ") if part.lower().startswith(f"{mistake.name.lower()}\n")
    ]
    for client in CLIENTS:
        line = re.search(rf"^\| {client} \| `(.+)`( and no word of the cause)? \|$", section, re.MULTILINE)
        if line is None:
            assert (client, mistake.goal) == ("kcat", "transaction")
            continue
        assert bool(line[2]) == (client in mistake.silent) != bool(re.search(mistake.tells, line[1])), line
    assert mistake.logged in section.rpartition("the broker's log")[2]
