"""How the addresses of trusted proxies look to a socket: T-60."""

from notifier.transports.proxies import also_mapped


def test_a_network_of_ipv4_is_also_what_a_socket_for_both_families_shows() -> None:
    assert also_mapped(["192.0.2.7", "10.0.0.0/8", "2001:db8::/32", "unix:"]) == [
        *("192.0.2.7", "::ffff:192.0.2.7/128"),
        *("10.0.0.0/8", "::ffff:10.0.0.0/104"),
        *("2001:db8::/32", "unix:"),
    ]
