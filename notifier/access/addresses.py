"""From the address of a client to what is counted as one: an IPv4 address, or the /64 of an IPv6 one.

A subscriber gets a whole /64 (RFC 6177), so a single IPv6 address says nothing: anybody has 2^64 of them.
"""

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Final

UNKNOWN: Final = "unknown"
_LOW_BITS: Final = (1 << 64) - 1


@lru_cache(maxsize=4_096)  # Parsing one takes 2 µs, and every request asks.
def network_of(address: str | None) -> str:
    """What is counted as one: `192.0.2.1`, or `2001:db8::/64`. IPv4 inside of IPv6 counts as IPv4.

    What is no address, as the path of a Unix socket, is counted together: no limit is skipped for it.
    """
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:
        return UNKNOWN
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return f"{IPv6Address(int(parsed) & ~_LOW_BITS)}/64"
