"""T-80: an hour of load, with clients that come and go and a broker that restarts: nothing grows, and nothing is lost.

python -m tests.faults.soak: prints its pass criterion, a line a minute, and the verdict. `make soak`.
"""

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from notifier.clients.prove.proof import Proof
from notifier.clients.prove.verdict import Verdict
from tests.faults.cluster import Baseline, Cluster, Place
from tests.faults.steadiness import COUNT_NOISE, MEMORY_NOISE, MEMORY_SLOPE, MIB, Sample, Steadiness
from tests.rabbitmq import NO_SERVER, RabbitMQ, find_server

DOWN_SECONDS: Final = 3.0
RESTORED_SECONDS: Final = 60.0
TELL_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 60.0  # A machine with other work on it is no reason to give up an hour.
SAMPLES: Final = 60  # At least so many after the warm-up.
# A replica knows the last 10,000 records again, and some hold more than one notification: before, it grows by design.
WARM_UP_SENDS: Final = 15_000
# What is kept for a while is kept for less than the warm-up, or it would grow by design for an hour.
SETTINGS: Final = {
    "NOTIFIER_WINDOW__MAX_AGE_SECONDS": "60",
    "NOTIFIER_IDEMPOTENCY__SPAN_SECONDS": "60",
    "NOTIFIER_SESSIONS__MAX_REMEMBERED": "20",
    "NOTIFIER_HTTP__KEEP_ALIVE_SECONDS": "5",  # What senders open in haste, when the broker is back, is gone soon.
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much, and for how long.

    Args:
        churn: the share of the sessions that lose their connection in a minute, and come back.
        restart_seconds: the broker is killed so often, and once in the middle of the warm-up.
    """

    minutes: float = 60.0
    sessions: int = 1_000
    rate: float = 100.0
    replicas: int = 3
    churn: float = 0.05
    restart_seconds: float = 1_200.0

    @property
    def seconds(self) -> float:
        return self.minutes * 60

    @property
    def warm_up_seconds(self) -> float:
        """At least; on a machine that does not keep up with the rate it takes longer, and so does the run."""
        return max(WARM_UP_SENDS / self.rate, self.seconds / 5)

    @property
    def sample_seconds(self) -> float:
        return min(10.0, max(1.0, (self.seconds - self.warm_up_seconds) / SAMPLES))

    def __str__(self) -> str:
        memory = f"{MEMORY_SLOPE / MIB:g} MiB an hour (in less than half an hour: or {MEMORY_NOISE / MIB:g} MiB in all)"
        return (
            f"{self.minutes:g} minutes, {self.replicas} replicas, {self.sessions} sessions of which {self.churn:.0%} a "
            f"minute are cut, {self.rate:g} notifications a second, a broker killed each {self.restart_seconds:g} s.\n"
            f"Passes when, after {self.warm_up_seconds:g} s, memory grows by at most {memory}, tasks and descriptors "
            f"(beside the sessions') by at most {COUNT_NOISE:g}; all are as before at the end; and nothing is lost."
        )


@dataclass(slots=True)
class Outcome:
    """What a soak showed."""

    verdict: Verdict
    steadiness: dict[str, Steadiness]
    restarts: int
    cuts: int
    complaints: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Why it does not pass; nothing when it does."""
        found = [f"{name}: {fault}" for name, each in self.steadiness.items() for fault in each.faults]
        if not self.verdict.is_clean or self.verdict.unknown or self.verdict.resets:
            found.append(f"{self.verdict}, unknown {self.verdict.unknown}, resets {self.verdict.resets}")
        return found + self.complaints

    def __str__(self) -> str:
        verdict = self.verdict
        lines = [f"{name}: {each}" for name, each in self.steadiness.items()]
        offences = {name: getattr(verdict, name).count for name in ("lost", "unexpected", "out_of_order", "repeated")}
        said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in offences.items())
        lines.append(f"accepted {verdict.accepted} of {verdict.sent}, received {verdict.receipts}: {said}")
        lines.append(f"{self.cuts} sessions cut, {self.restarts} restarts of the broker, {verdict.resets} resets")
        return "\n".join([*lines, *(f"FAILED: {fault}" for fault in self.faults)] + ["passed"] * (not self.faults))


class Soak:
    """One run on a cluster of its own."""

    def __init__(self, cluster: Cluster, plan: Plan, *, tell: Callable[[str], None] = lambda _: None) -> None:
        self._cluster = cluster
        self._plan = plan
        self._tell = tell
        self._random = random.Random(80)
        self._samples: dict[Place, list[Sample]] = {place: [] for place in cluster.places}
        self._is_warm = False  # What is seen from then on counts.
        self._restarts = 0
        self._cuts = 0

    async def run(self) -> Outcome:
        """Run all of it."""
        cluster, plan = self._cluster, self._plan
        await cluster.start()
        baseline = await Baseline.of(cluster)
        load = {"sessions": plan.sessions, "rate": plan.rate, "seconds": 3 * plan.seconds, "seed": 80}
        async with cluster.proof(amqp_share=0.2, retry_seconds=120.0, **load) as proof:
            await self._go_on(proof)
            proof.stop()
            await proof.settle(within_seconds=RESTORED_SECONDS)
            verdict = proof.verdict()
        complaints = cluster.complaints()
        try:
            await baseline.restored(within_seconds=RESTORED_SECONDS)
        except TimeoutError:
            complaints.append("descriptors or tasks are not as before when everybody has left")
        steadiness = {str(place): Steadiness.of(samples) for place, samples in self._samples.items()}
        return Outcome(verdict, steadiness, self._restarts, self._cuts, complaints)

    async def _go_on(self, proof: Proof) -> None:
        async with asyncio.TaskGroup() as tasks:
            troubles = [tasks.create_task(each(proof)) for each in (self._churn, self._restart, self._sample)]
            await asyncio.sleep(self._plan.warm_up_seconds)
            await proof.sent(WARM_UP_SENDS, within_seconds=self._plan.seconds)
            self._is_warm = True
            await asyncio.sleep(self._plan.seconds - self._plan.warm_up_seconds)
            for trouble in troubles:
                trouble.cancel()
        if not self._cluster.broker.is_running:  # A restart was cut short, and the rest of the load needs a broker.
            await self._cluster.start_broker()

    async def _churn(self, proof: Proof) -> None:
        while True:
            await asyncio.sleep(60 / (self._plan.churn * self._plan.sessions))
            self._random.choice(proof.receivers).cut()
            self._cuts += 1

    async def _restart(self, proof: Proof) -> None:
        """Kill the broker, and start it again; the first time during the warm-up, which is to see all there is once."""
        await asyncio.sleep(self._plan.warm_up_seconds / 2)
        while True:
            await self._cluster.kill_broker()
            await asyncio.sleep(DOWN_SECONDS)
            await self._cluster.start_broker()
            await proof.all_restored(within_seconds=RESTORED_SECONDS)
            self._restarts += 1
            await asyncio.sleep(self._plan.restart_seconds)

    async def _sample(self, proof: Proof) -> None:
        """Look at each replica now and then, and tell of it each minute."""
        began = told_at = time.monotonic()
        while True:
            seen = {place: await _look(place) for place in self._cluster.places}
            now = time.monotonic()
            if self._is_warm:
                for place, sample in seen.items():
                    self._samples[place].append(sample)
            if now - told_at >= TELL_SECONDS:
                told_at += TELL_SECONDS
                memory = ", ".join(f"{sample.memory_bytes / MIB:.1f}" for sample in seen.values())
                self._tell(f"{now - began:4.0f} s: {proof.load.settled} sent, {proof.live} live, {memory} MiB")
            await asyncio.sleep(self._plan.sample_seconds)


async def _look(place: Place) -> Sample:
    async with httpx.AsyncClient(base_url=place.operations_url, verify=False, timeout=LOOK_SECONDS) as operator:
        page = (await operator.get("/metrics")).raise_for_status().text
    values = {each.name: each.value for family in text_string_to_metric_families(page) for each in family.samples}
    return Sample(
        time.monotonic(),
        values["process_resident_memory_bytes"],
        values["process_open_fds"] - values["notifier_sessions"],
        values["notifier_tasks"],
    )


async def soak(node: RabbitMQ, directory: Path, plan: Plan, *, tell: Callable[[str], None] = lambda _: None) -> Outcome:
    """Run the plan on a node that may be killed; logs go to the directory."""
    cluster = Cluster(node, directory, prefix="soak", replicas=plan.replicas, settings=SETTINGS)
    try:
        return await Soak(cluster, plan, tell=tell).run()
    finally:
        cluster.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run it from the command line. Returns the exit code."""
    usual = Plan()
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=usual.minutes)
    parser.add_argument("--sessions", type=int, default=usual.sessions)
    parser.add_argument("--rate", type=float, default=usual.rate)
    parser.add_argument("--replicas", type=int, default=usual.replicas)
    parser.add_argument("--restart-seconds", type=float, default=usual.restart_seconds)
    plan = Plan(**vars(parser.parse_args(arguments)))
    if plan.seconds < 1.5 * plan.warm_up_seconds:
        parser.error(f"it warms up for {plan.warm_up_seconds:g} s: give it half as much more at least")
    server = find_server()
    if server is None:
        sys.exit(NO_SERVER)
    logging.basicConfig(level=logging.CRITICAL)  # Libraries tell of every lost connection, and so does the verdict.
    _say(str(plan))
    with tempfile.TemporaryDirectory(prefix="notifier-soak-") as directory, RabbitMQ(server) as node:
        outcome = asyncio.run(soak(node, Path(directory), plan, tell=_say))
    _say(str(outcome))
    return 1 if outcome.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
