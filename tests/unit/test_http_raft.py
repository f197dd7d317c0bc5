"""How far followers are behind, as a page is told: one number from the other."""

from __future__ import annotations

from typing import Any

import pytest

from raftlog.http.api.raft import place_followers


@pytest.mark.parametrize(
    ("match", "own", "on_disk", "behind"),
    [
        pytest.param(480, 482, "480", "6", id="what the leader knows, and not what was said a moment later"),
        pytest.param(0, 384, "384", "102", id="a new leader has not heard of it: what it says itself"),
        pytest.param(0, 500, "486", "0", id="it has entries of an old term that the leader has not"),
        pytest.param(0, 0, "0", "486", id="it is empty, and says so"),
        pytest.param(0, None, None, None, id="nobody says"),
        pytest.param(384, None, "384", "102", id="it is down, and was heard before"),
    ],
)
def test_what_a_follower_has_and_lacks_is_the_leaders_log(
    match: int, own: int | None, on_disk: str | None, behind: str | None
) -> None:
    """One that was cut off when another began to lead was "486 entries behind", with 384 of 486 on disk."""
    follower = {"broker": 2, "match": str(match), "behind": str(486 - match), "state": "silent"}
    leader: dict[str, Any] = {"last_index": "486", "followers": [follower]}
    place_followers(leader, {"2": None if own is None else {"synced_index": str(own)}})
    assert (follower["on_disk"], follower["behind"]) == (on_disk, behind)
