"""The keys of an issuer that publishes them: fetched at the start, refreshed in the background, kept while it is down.

Whoever meets a token with a key that is not known may have the set fetched anew, all together at most once in
`Pace.least_seconds`: what strangers write into tokens must not become requests to the issuer.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from typing import Final, Literal

from notifier.access.jwks import PublishedKey, Reading, read_jwks
from notifier.access.key_fetch import KeyPlace, KeysNotFetched, fetch_keys
from notifier.access.keys import KeySet, ready_key

log: Final = logging.getLogger(__name__)
_FIRST_RETRY_SECONDS: Final = 1.0  # Doubles with each attempt, as long as there never were keys.
Result = Literal["changed", "unchanged", "failed", "refused"]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often, and how long.

    Args:
        refresh_seconds: from one good fetch to the next.
        least_seconds: between any two, once there were keys.
        timeout_seconds: of one fetch, discovery included; a token waits no longer for it.
        max_stale_seconds: keys that could not be fetched anew for so long are dropped.
    """

    refresh_seconds: float = 600.0
    least_seconds: float = 30.0
    timeout_seconds: float = 3.0
    max_stale_seconds: float = 86_400.0


class RemoteKeys:
    """The keys of one issuer. Only `run`, or whoever calls `fetch` in its place, fetches: so never two at a time.

    Args:
        algorithms: of one family, RS or ES.
        changed: told of each change of the set, after it.
        clock: Unix seconds, to hold the time of a fetch against that of a token.
    """

    def __init__(
        self,
        place: KeyPlace,
        algorithms: Sequence[str],
        *,
        pace: Pace,
        changed: Callable[[], None] = lambda: None,
        fetch: Callable[[KeyPlace], Awaitable[bytes]] = fetch_keys,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.place = place
        self.algorithms = tuple(algorithms)
        self.keys = KeySet([])
        self.results: Counter[Result] = Counter({"changed": 0, "unchanged": 0, "failed": 0, "refused": 0})
        self.trouble: str | None = None  # Why the last fetch brought nothing.
        self.published: tuple[PublishedKey, ...] = ()  # What `keys` are made of, and below what the set held besides.
        self.passed_over: tuple[str, ...] = ()
        self.changed = changed
        self._pace = pace
        self._fetch = fetch
        self._clock = clock
        self._monotonic = monotonic
        self._fetched_at: float | None = None  # When the fetch began that brought the keys; None without keys.
        self._began_at = -inf
        self._due_at = monotonic()
        self._retry_seconds = _FIRST_RETRY_SECONDS
        self._is_fetching = False
        self._was_loaded = False
        self._wanted = asyncio.Event()
        self._round = asyncio.Event()  # Set when the fetch ends that is under way, or else the next one.

    @property
    def was_loaded(self) -> bool:
        """Whether a fetch has brought keys since the start."""
        return self._was_loaded

    @property
    def age_seconds(self) -> float:
        """Since the keys in force were fetched; infinite without any."""
        return inf if self._fetched_at is None else self._monotonic() - self._fetched_at

    @property
    def retry_after(self) -> timedelta:
        """When it may be known more."""
        return timedelta(seconds=max(1.0, self._next_at() - self._monotonic()))

    @property
    def may_change(self) -> bool:
        """Whether `ask` would have the keys fetched, or wait for a fetch."""
        return self._is_fetching or self._monotonic() >= self._next_at()

    def is_newer_than(self, issued_at: float, leeway_seconds: float) -> bool:
        """Whether the keys were fetched after a moment in Unix seconds, though its clock may differ from ours."""
        return self._clock() - self.age_seconds > issued_at + leeway_seconds

    # -- fetching ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the keys fresh, for ever."""
        while True:
            self._wanted.clear()
            await self.fetch()
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._due_at - self._monotonic())):
                    await self._wanted.wait()

    def hurry(self) -> None:
        """Have the keys fetched now, since an operator asks."""
        self._wanted.set()

    async def ask(self) -> bool:
        """Have the keys fetched, if it is time, and wait.

        Returns whether keys came by a fetch that began after the call: then what they do not have is not there.
        """
        asked_at = self._monotonic()
        if not self.may_change:
            return False
        if not self._is_fetching:
            self._wanted.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pace.timeout_seconds):
                await self._round.wait()
        return self._fetched_at is not None and self._fetched_at >= asked_at

    async def fetch(self) -> None:
        """Fetch once; a failure leaves what is there."""
        self._is_fetching, self._began_at = True, self._monotonic()
        try:
            async with asyncio.timeout(self._pace.timeout_seconds):
                body = await self._fetch(self.place)
            # A large set takes longer than the event loop should be held.
            reading = await asyncio.to_thread(read_jwks, body, self.algorithms)
        except TimeoutError:
            self._fail("failed", f"no answer within {self._pace.timeout_seconds:g} s")
        except (KeysNotFetched, OSError) as error:
            self._fail("failed", str(error))
        except ValueError as error:
            self._fail("refused", f"the set is not taken: {error}")
        except Exception as error:  # noqa: BLE001 - what an issuer answers must not end a replica, whatever it is
            self._fail("failed", f"what comes cannot be dealt with ({type(error).__name__})")
        else:
            self._take(reading)
        finally:
            self._is_fetching = False
            self._round.set()
            self._round = asyncio.Event()

    def _next_at(self) -> float:
        """When a fetch may begin: without keys so far, as `run` has it; else as often as strangers may cause one."""
        return self._began_at + self._pace.least_seconds if self._was_loaded else self._due_at

    def _take(self, reading: Reading) -> None:
        self._fetched_at, self._was_loaded, self.trouble = self._began_at, True, None
        self._due_at = self._began_at + self._pace.refresh_seconds
        self.passed_over = reading.passed_over
        if set(reading.keys) == set(self.published):  # Some list them in another order each time.
            self.results["unchanged"] += 1
            return
        self.results["changed"] += 1
        self._replace(reading.keys)
        log.info(
            "issuer keys changed",
            extra={
                "issuer": self.place.issuer,
                "kids": [key.kid for key in reading.keys],
                "passed_over": list(reading.passed_over),
            },
        )

    def _fail(self, result: Result, trouble: str) -> None:
        self.results[result] += 1
        self.trouble = trouble
        wait_seconds = self._pace.least_seconds
        if not self._was_loaded:
            wait_seconds = min(wait_seconds, self._retry_seconds)
            self._retry_seconds *= 2
        self._due_at = self._began_at + wait_seconds
        log.warning("issuer keys not fetched", extra={"issuer": self.place.issuer, "reason": trouble})
        if self._fetched_at is not None and self.age_seconds > self._pace.max_stale_seconds:
            self._fetched_at = None
            self._replace(())
            log.error("issuer keys dropped", extra={"issuer": self.place.issuer, "reason": "too old"})

    def _replace(self, published: tuple[PublishedKey, ...]) -> None:
        self.published = published
        self.keys = KeySet(ready_key(key.pem, algorithm, key.kid) for key in published for algorithm in key.algorithms)
        self.changed()
