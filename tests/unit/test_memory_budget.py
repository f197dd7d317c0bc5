"""What is charged, to which account, and until when; and who is woken when there is room."""

from __future__ import annotations

from raftlog.memory import REQUEST_COST, WOKEN_AT_ONCE_MAX, Frame, MemoryBudget

SIZE = 1000
CHARGE = SIZE + REQUEST_COST


def frame(budget: MemoryBudget) -> Frame:
    made = Frame(budget, bytes(SIZE))
    made.admit(SIZE)
    return made


def test_a_request_is_charged_until_nobody_holds_its_bytes() -> None:
    budget = MemoryBudget(1 << 20)
    request = frame(budget)
    assert (budget.requests, budget.kept) == (CHARGE, 0)
    batch = memoryview(request)[10:20]
    request.answered()
    request.answered()
    assert (budget.requests, budget.kept) == (0, CHARGE)
    del request
    assert budget.kept == CHARGE, "a log holds a batch of it"
    del batch
    assert (budget.requests, budget.kept) == (0, 0)


def test_a_request_that_nobody_answers_is_given_back_with_its_bytes() -> None:
    budget = MemoryBudget(1 << 20)
    request = frame(budget)
    del request
    assert (budget.requests, budget.kept) == (0, 0)


def test_what_was_decoded_is_charged_no_more() -> None:
    budget = MemoryBudget(1 << 20)
    request = frame(budget)
    request.discharge()
    assert budget.requests == 0
    request.answered()
    del request
    assert (budget.requests, budget.kept) == (0, 0)


def test_accounts_are_full_at_a_quarter_each() -> None:
    budget = MemoryBudget(4 * CHARGE)
    assert budget.has_room and not budget.keeps_too_much and budget.room_for_answers == CHARGE
    request = frame(budget)
    assert not budget.has_room and not budget.keeps_too_much
    request.answered()
    assert budget.has_room and budget.keeps_too_much
    budget.answers = 2 * CHARGE
    assert budget.room_for_answers == 0


def test_who_waits_is_woken_when_there_is_room_the_oldest_first() -> None:
    budget = MemoryBudget(4 * CHARGE)
    first, second = frame(budget), frame(budget)
    woken: list[int] = []
    for number in range(WOKEN_AT_ONCE_MAX + 1):
        budget.when_room(lambda number=number: woken.append(number))  # type: ignore[misc]
    first.answered()
    assert woken == [] and budget.is_waited_for
    second.answered()
    assert woken == list(range(WOKEN_AT_ONCE_MAX))
    budget.wake()
    assert len(woken) == WOKEN_AT_ONCE_MAX + 1 and not budget.is_waited_for


def test_what_logs_remember_gives_way_before_too_much_is_kept() -> None:
    budget = MemoryBudget(4 * 16 * CHARGE)
    remembered: list[memoryview] = []

    def forget_some() -> bool:
        had = bool(remembered)
        del remembered[: max(1, len(remembered) // 8)]
        return had

    budget.forget_some = forget_some
    for _ in range(200):
        request = frame(budget)
        remembered.append(memoryview(request)[10:20])
        request.answered()
        del request
        assert not budget.keeps_too_much
    assert 0 < budget.kept <= 12 * CHARGE
    unsafe = []
    while not budget.keeps_too_much:  # no majority takes these
        unsafe.append(frame(budget))
        unsafe[-1].answered()
    assert remembered == []
