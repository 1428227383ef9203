"""T-80: nothing grows under a load that goes on, and a leak would be found out."""

import random
from pathlib import Path

import pytest

from tests.faults.conftest import is_full
from tests.faults.soak import Plan, soak
from tests.faults.steadiness import MIB, Sample, Steadiness
from tests.rabbitmq import RabbitMQ


@pytest.mark.skipif(not is_full(), reason="five minutes: make test-faults, or an hour: make soak")
async def test_nothing_grows_in_five_minutes_of_churn_and_restarts(
    own_rabbitmq: RabbitMQ, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """An hour of it is `make soak`."""
    outcome = await soak(own_rabbitmq, tmp_path, Plan(minutes=5, restart_seconds=90))
    request.node.user_properties.append(("figures", str(outcome)))

    assert outcome.faults == []
    assert outcome.restarts >= 2
    assert outcome.cuts >= 200


def samples(*, minutes: float, leak: float = 0.0, descriptors: float = 0.0, tasks: float = 0.0) -> list[Sample]:
    """A replica of 100 MiB whose memory moves by 200 KiB up and down; `leak` in MiB an hour, the others in all."""
    noise = random.Random(1)
    count = 100
    return [
        Sample(
            at := minutes * 60 * number / count,
            (100 + leak * at / 3_600 + noise.uniform(-0.2, 0.2)) * MIB,
            40 + descriptors * number / count + noise.randint(-2, 2),
            30 + tasks * number / count + noise.randint(-2, 2),
        )
        for number in range(count)
    ]


def test_what_moves_up_and_down_is_steady() -> None:
    assert Steadiness.of(samples(minutes=48)).faults == []
    assert Steadiness.of(samples(minutes=3)).faults == []


@pytest.mark.parametrize(
    ("minutes", "growth", "fault"),
    [
        (48, {"leak": 2.0}, "memory grows"),  # As of 1,000 sessions that were cut, half of which are still held.
        (3, {"leak": 120.0}, "memory grows"),
        (3, {"descriptors": 60.0}, "more descriptors"),
        (3, {"tasks": 60.0}, "more tasks"),
    ],
)
def test_a_leak_is_found_out(minutes: float, growth: dict[str, float], fault: str) -> None:
    (found,) = Steadiness.of(samples(minutes=minutes, **growth)).faults

    assert fault in found


def test_a_peak_is_no_leak() -> None:
    """As when the broker comes back, and all that waited is delivered at once."""
    calm = samples(minutes=48)
    calm[-8:-2] = [sample._replace(memory_bytes=130 * MIB, descriptors=90, tasks=200) for sample in calm[-8:-2]]

    assert Steadiness.of(calm).faults == []
