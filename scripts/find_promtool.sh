#!/bin/sh
# Prints the path of a promtool, with which the tests try the alert rules; takes Debian's out of its package where there
# is none and we are root. Nothing is installed: the package would bring a Prometheus that runs as a service.
# Prints nothing where there is none to be had: the tests decide whether that is a skip or, with CI=true, a failure.
unpacked=$(cd "$(dirname "$0")/.." && pwd)/build/promtool
find_promtool() {
    for tool in "$NOTIFIER_TEST_PROMTOOL" promtool "$unpacked/usr/bin/promtool"; do
        [ -n "$tool" ] && command -v "$tool" && return
    done
    return 1
}

unpack_promtool() {
    mkdir -p "$unpacked" && cd "$unpacked" || return
    apt-get update -qq
    apt-get download -qq prometheus && dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool
    rm -f prometheus_*.deb
}

find_promtool && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "No promtool found: taking Debian's for the tests of the alerts, without its service (a few seconds) ..." >&2
    (unpack_promtool) >/dev/null 2>&1 || echo "Taking promtool failed: the tests of the alerts go without." >&2
    find_promtool
fi
exit 0
