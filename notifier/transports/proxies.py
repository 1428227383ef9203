"""How the addresses of trusted proxies look to a socket."""

from collections.abc import Iterable
from ipaddress import IPv4Network, ip_network


def also_mapped(networks: Iterable[str]) -> list[str]:
    """The same, and IPv4 ones as a socket that takes both families shows them too: `::ffff:192.0.2.0/120`."""
    return [shown for network in networks for shown in (network, *_mapped(network))]


def _mapped(network: str) -> tuple[str, ...]:
    try:
        parsed = ip_network(network)
    except ValueError:
        return ()
    return (f"::ffff:{parsed.network_address}/{96 + parsed.prefixlen}",) if isinstance(parsed, IPv4Network) else ()
