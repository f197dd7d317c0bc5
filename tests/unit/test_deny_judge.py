"""The judge of the deny and password registers, on histories that are wrong and on such that look it."""

from __future__ import annotations

from pathlib import Path

from tests.deny.credentials import Passwords
from tests.deny.judge import Op, Register, violations
from tests.deny.results import Result, add_to, total_of


def register() -> Register:
    """Denied for sure from 10 to 20, and from 30 on."""
    made = Register()
    made.deny_returned(10)
    made.allow_begins(20)
    made.allow_begins(25)
    made.deny_returned(30)
    return made


def test_what_succeeds_under_a_deny_is_found() -> None:
    for begun, wrong in ((9.9, 0), (10, 1), (19.8, 1), (20, 0), (29, 0), (31, 1)):
        assert len(list(violations(register(), [Op("a write", 1, begun, begun + 0.1)]))) == wrong, begun


def test_what_was_held_back_until_the_next_allow_is_no_violation() -> None:
    """A broker that was paused, or starts, decides when it knows the rules: an allow may be one of them."""
    for begun, ended, wrong in ((11, 19.9, 1), (11, 20, 0), (19.9, 24.9, 0), (31, 99, 1)):
        assert len(list(violations(register(), [Op("a look", 3, begun, ended)]))) == wrong, (begun, ended)


def test_a_record_that_came_after_a_deny_must_not_arrive_before_the_next_allow() -> None:
    for written, ended, wrong in ((9, 12, 0), (11, 12, 1), (11, 21, 0), (22, 23, 0), (31, 99, 1)):
        op = Op("a read", 2, 9, ended, written)
        assert len(list(violations(register(), [op]))) == wrong, (written, ended)


def test_before_any_deny_nothing_is_wrong() -> None:
    assert not list(violations(Register(), [Op("a write", 1, 5, 6), Op("a read", 1, 5, 6, 5)]))


def passwords(*, is_surely_last: bool = True) -> Passwords:
    """The first is set at 10, the second replaces it at 20, and from 30 on that one is on its way out."""
    made = Passwords()
    for number, at in ((1, 10), (2, 20)):
        made.change_begins(at - 1)
        assert made.begin() == number
        made.was_set(number, at, is_surely_last=is_surely_last)
    made.change_begins(30)
    return made


def test_a_password_that_was_replaced_does_nothing() -> None:
    for number, begun, wrong in ((1, 19, 0), (1, 20, 1), (1, 99, 1), (2, 20, 0), (2, 99, 0)):
        made = passwords()
        made.ops[number].append(Op("a login", 1, begun, begun + 0.1))
        assert len(list(made.violations())) == wrong, (number, begun)
    gone = passwords()
    gone.all_gone(40)
    gone.ops[2] += [Op("a look", 1, 39, 39.5), Op("a look", 1, 41, 41.5), Op("a read", 1, 39, 45, 42)]
    assert len(list(gone.violations())) == 2


def test_a_password_whose_setting_is_unsure_is_not_judged() -> None:
    made = passwords()
    number = made.begin()
    made.ops[number].append(Op("a login", 1, 31, 32))
    made.all_gone(40)
    made.ops[number].append(Op("a login", 1, 50, 51))
    assert not list(made.violations())


def test_a_password_that_is_in_force_is_refused_by_nobody() -> None:
    for begun, ended, wrong in ((19, 21, 0), (20, 21, 1), (29, 29.9, 1), (29, 30, 0), (31, 32, 0)):
        made = passwords()
        made.refused.append((2, 3, begun, ended))
        assert len(list(made.violations())) == wrong, (begun, ended)
    unsure = passwords(is_surely_last=False)
    unsure.refused.append((2, 3, 21, 22))
    assert not list(unsure.violations())


def test_pieces_of_several_commands_are_summed_up(tmp_path: Path) -> None:
    def piece(seed: int, faults: dict[str, int], violations: list[str]) -> Result:
        return Result(
            register="denies",
            seed=seed,
            seconds=60.0,
            calls=100,
            checks=20,
            succeeded=70,
            changes=9,
            unknown=1,
            slowest=3.5,
            faults=faults,
            violations=violations,
        )

    first, second = piece(1, {"pause": 2}, ["a write"]), piece(2, {"pause": 1, "kill": 3}, [])
    add_to(tmp_path / "results", first)
    add_to(tmp_path / "results", second)
    total = total_of([second], tmp_path / "results")
    assert total == total_of([first, second], None)
    assert (total.seconds, total.checks, total.faults) == (120.0, 40, {"pause": 3, "kill": 3})
    assert total.violations == ["a write"]
    assert "6 faults (3 kill, 3 pause); 1 violations\n  a write" in total.told()
