"""Asks the operations ports of all replicas the same question."""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from notifier.clients.tls import told

ANSWER_SECONDS: Final = 5.0
DEFAULT_PORT: Final = 9000


@dataclass(frozen=True, slots=True)
class Reply:
    """What one replica said.

    Args:
        address: its URL.
        answer: the JSON object; None when there is none.
        trouble: why there is none.
    """

    address: str
    answer: Mapping[str, Any] | None
    trouble: str | None = None


def addresses(url: str) -> list[str]:
    """The URL of each replica that a URL stands for: a name may have many addresses, as that of a headless service.

    Of a name with addresses of both families, those of IPv4 are taken, so that no replica counts twice. Raises
    ValueError for what is no URL, or a name that nobody knows.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url} is no address of an operations port: expected one like http://10.0.0.1:9000")
    if parts.scheme == "https":
        return [parts.geturl().rstrip("/")]  # Its certificate is for the name.
    port = parts.port or DEFAULT_PORT
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(f"{parts.hostname} has no address: {error.strerror}") from None
    families: dict[int, list[str]] = {}
    for family, _, _, _, address in found:
        families.setdefault(family, []).append(str(address[0]))
    hosts = families.get(socket.AF_INET) or [f"[{host}]" for host in families.get(socket.AF_INET6, ())]
    return [f"http://{host}:{port}" for host in dict.fromkeys(hosts)]


async def ask_all(
    replicas: Sequence[str], path: str, params: Mapping[str, str], *, tls: ssl.SSLContext | None = None
) -> list[Reply]:
    """Ask each replica, all at a time and each for at most some seconds. An answer of 404 is one."""
    tls = tls or httpx.create_ssl_context()
    # Pods are not reached through the proxy that the environment may name; its SSL_CERT_FILE has been read above.
    async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False, verify=tls) as client:
        return await asyncio.gather(*(_ask(client, replica, path, params) for replica in replicas))


async def _ask(client: httpx.AsyncClient, replica: str, path: str, params: Mapping[str, str]) -> Reply:
    try:
        answer = await client.get(f"{replica}{path}", params=dict(params))
        if answer.status_code not in (200, 404):
            return Reply(replica, None, f"it answered {answer.status_code}")
        found = answer.json()
    except httpx.TimeoutException:
        return Reply(replica, None, f"no answer within {ANSWER_SECONDS:g} s")
    except httpx.HTTPError as error:
        return Reply(replica, None, told(error))
    except ValueError:
        return Reply(replica, None, "its answer is no JSON")
    if not isinstance(found, dict) or "in_window" not in found:
        return Reply(replica, None, "it is no operations port of notifier, or of an older version")
    return Reply(replica, found)
