"""All key sets that are fetched, one per issuer that publishes its keys; they outlive a change of the settings."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from notifier.access.key_fetch import KeyPlace
from notifier.access.remote_keys import Pace, RemoteKeys


class KeyPool:
    """Hands out key sets, and keeps those fresh that are in use.

    Args:
        boot_seconds: a replica that has not got the keys of an issuer so long after its start is ready all the same.
    """

    def __init__(self, pace: Pace, *, boot_seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        # Told of each change of a set; replaced when there is who to tell.
        self.changed: Callable[[], None] = lambda: None
        self._pace = pace
        self._in_use: tuple[RemoteKeys, ...] = ()
        self._is_new = asyncio.Event()  # Others are in use than `run` knows of.
        self._monotonic = monotonic
        self._boot_ends_at = monotonic() + boot_seconds

    def keys_of(self, place: KeyPlace, algorithms: Sequence[str]) -> RemoteKeys:
        """The set that is published there: the one in use, with its keys, or a new one, which is still empty."""
        wanted = (place, tuple(algorithms))
        known = next((keys for keys in self._in_use if (keys.place, keys.algorithms) == wanted), None)
        return known or RemoteKeys(place, algorithms, pace=self._pace, changed=self._on_change)

    def use(self, sets: Iterable[RemoteKeys]) -> None:
        """Keep these fresh from now on, and no others; those that stay are fetched anew, as whoever reloads expects."""
        before, self._in_use = self._in_use, tuple(sets)
        for keys in set(before).intersection(self._in_use):
            keys.hurry()
        self._is_new.set()

    async def run(self) -> None:
        """Keep the sets fresh, for ever."""
        tasks: dict[RemoteKeys, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                self._is_new.clear()
                for gone in tasks.keys() - set(self._in_use):
                    tasks.pop(gone).cancel()
                for keys in self._in_use:
                    if keys not in tasks:
                        tasks[keys] = group.create_task(keys.run(), name=f"keys of {keys.place.issuer}")
                await self._is_new.wait()

    def _on_change(self) -> None:
        self.changed()

    def state(self) -> tuple[bool, str]:
        """Whether clients may come, and how it stands: `none`, `ok`, or whose keys are missing or old, and why."""
        is_booting = self._monotonic() < self._boot_ends_at
        missing = [keys for keys in self._in_use if not keys.was_loaded]
        troubled = [f"{keys.place.issuer}: {keys.trouble}" for keys in self._in_use if keys.trouble]
        word = "starting" if missing and is_booting else "degraded"
        if troubled or missing:
            return word != "starting", f"{word}: {'; '.join(troubled) or 'the keys are being fetched'}"
        return True, "ok" if self._in_use else "none"

    def readings(self) -> Mapping[str, Callable[[], Mapping[tuple[str, ...], float]]]:
        """The numbers that the sets keep anyway, by the names of their metrics."""
        return {
            "notifier_jwks_fetches_total": lambda: {
                (keys.place.issuer, result): count for keys in self._in_use for result, count in keys.results.items()
            },
            "notifier_jwks_age_seconds": lambda: {(keys.place.issuer,): keys.age_seconds for keys in self._in_use},
            "notifier_jwks_keys": lambda: {(keys.place.issuer,): len(keys.published) for keys in self._in_use},
        }
