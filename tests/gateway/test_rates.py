"""How many requests a key may make."""

from __future__ import annotations

from remora_server.gateway.rates import MINUTE, SECOND, Rate
from tests.core.world import SetClock


def test_a_minute() -> None:
    """So many requests of each key are good until its minute ends; what is refused does not make that longer."""
    clock = SetClock()
    rate = Rate(2, clock)
    ends = -(-(clock.time + 1 + MINUTE) // SECOND)
    seen = [rate.take("a") for _ in range(4)]
    assert [(one.is_good, one.remaining) for one in seen] == [(True, 1), (True, 0), (False, 0), (False, 0)]
    assert {one.reset_seconds for one in seen} == {ends}
    assert all(59.9 < one.wait_seconds <= 60 for one in seen)
    assert rate.take("b").is_good
    clock.pass_by(MINUTE // 2)
    assert not rate.take("a").is_good
    clock.pass_by(MINUTE // 2)
    assert (rate.take("a").remaining, len(rate._counted)) == (1, 1)
