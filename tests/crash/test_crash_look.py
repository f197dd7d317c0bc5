"""The look at a log asks again where librdkafka leaves that to its user, and nowhere else."""

from __future__ import annotations

from typing import cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from tests.crash.look import _bounds


class Answers:
    """A consumer that answers one after the other."""

    def __init__(self, *answers: int) -> None:
        self.left = list(answers)

    def get_watermark_offsets(self, place: object, timeout: float) -> tuple[int, int]:
        if self.left:
            raise KafkaException(KafkaError(self.left.pop(0)))
        return 3, 7


def test_a_partition_that_has_moved_or_is_looked_up_is_asked_again() -> None:
    answers = Answers(KafkaError._UNKNOWN_PARTITION, KafkaError.NOT_LEADER_FOR_PARTITION)
    assert _bounds(cast(Consumer, answers), "t", 0) == (3, 7)


@pytest.mark.parametrize("code", [KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.OFFSET_OUT_OF_RANGE])
def test_what_a_broker_says_is_lost_is_an_error(code: int) -> None:
    with pytest.raises(KafkaException):
        _bounds(cast(Consumer, Answers(code)), "t", 0)
