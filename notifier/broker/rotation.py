"""The URL of a broker whose user and password are changed while the service runs."""

import logging
from collections.abc import Callable
from typing import Final

from yarl import URL

log: Final = logging.getLogger(__name__)


class RotatingUrl:
    """Asked for each connection. What cannot be used leaves the last one that could, and is said once.

    Only user, password and TLS files may change: a journal that was read on one broker and written on another would
    lose what is accepted in between, so another broker takes a restart.

    Args:
        read: the URL as it is now; raises ValueError, without it in the text, when it cannot be had.
        name: of the setting, for the log.
    """

    def __init__(self, read: Callable[[], str], *, name: str) -> None:
        self._read = read
        self._name = name
        self._last = read()
        self._said: str | None = None  # What was wrong last time; None after one that could be used.

    def __call__(self) -> str:
        """The URL to connect with now."""
        try:
            url = self._read()
            if place_of(url) != place_of(self._last):
                raise ValueError("it names another broker or virtual host, which takes a restart")
        except ValueError as error:
            self._complain(str(error))
            return self._last
        if url != self._last:
            log.info("broker credentials changed", extra={"setting": self._name})
        self._last, self._said = url, None
        return url

    def _complain(self, reason: str) -> None:
        if reason != self._said:
            log.warning(
                "broker credentials not read, the last ones stay", extra={"setting": self._name, "reason": reason}
            )
        self._said = reason


def place_of(text: str) -> tuple[str, str | None, int | None, str]:
    """Which broker and virtual host a URL names, whoever it is for."""
    url = URL(text)
    return url.scheme, url.host, url.port, url.path
