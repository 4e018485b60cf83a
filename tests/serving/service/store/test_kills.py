"""A process that is killed while it writes loses and doubles nothing."""

from benchmarks.speed.store_kills import kill_writers


def test_every_acknowledged_event_is_there_once(url: str) -> None:
    kills = kill_writers(url, rounds=3)
    assert kills.acknowledged > 0
    assert kills.stored >= kills.acknowledged
    assert (kills.lost, kills.doubled, kills.torn) == (0, 0, 0)
