#!/bin/sh
# Prints the path of a redis-server for the tests' own; installs Debian's where there is none and we are root.
# Prints nothing where there is none to be had: the tests decide whether that is a skip or, with CI=true, a failure.
find_redis() {
    for server in "$NOTIFIER_TEST_REDIS" redis-server valkey-server; do
        [ -n "$server" ] && command -v "$server" && return
    done
    return 1
}

# Debian starts a service as it installs it, unless this file says no; see find_rabbitmq.sh.
policy=/usr/sbin/policy-rc.d
install_redis() {
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || return
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends redis-server || return
    { update-rc.d redis-server disable; invoke-rc.d redis-server stop; } 2>/dev/null || true
}

find_redis && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "No Redis found: installing Debian's for the tests, not as a service (a few seconds) ..." >&2
    install_redis >/dev/null || echo "Installing Redis failed: the tests that need it go without." >&2
    find_redis
fi
exit 0
