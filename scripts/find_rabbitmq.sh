#!/bin/sh
# Prints the path of a rabbitmq-server for the tests' own brokers; installs Debian's where there is none and we are root.
# Prints nothing where there is none to be had, or where NOTIFIER_TEST_AMQP_URL names a broker to use instead: the tests
# decide whether that is a skip or, with CI=true, a failure.
[ -n "$NOTIFIER_TEST_AMQP_URL" ] && exit 0

# The script that Debian puts on PATH becomes another user. The real one reads rabbitmq-env, and runs as whoever calls it.
find_rabbitmq() {
    for server in "$NOTIFIER_TEST_RABBITMQ" /usr/lib/rabbitmq/bin/rabbitmq-server rabbitmq-server; do
        [ -n "$server" ] && server=$(command -v "$server") && grep -q rabbitmq-env "$server" && echo "$server" && return
    done
    return 1
}

# Debian starts a service as it installs it, unless this file says no. One that is there already is the machine's own
# rule and stays; where it allows the start, the service is stopped again.
policy=/usr/sbin/policy-rc.d
install_rabbitmq() {
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || return
    fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rabbitmq-server || return
    { update-rc.d rabbitmq-server disable; invoke-rc.d rabbitmq-server stop; } 2>/dev/null || true
}

find_rabbitmq && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "No RabbitMQ found: installing Debian's for the tests, not as a service (a minute or two) ..." >&2
    install_rabbitmq >/dev/null || echo "Installing RabbitMQ failed: the tests that need it go without." >&2
    find_rabbitmq
fi
exit 0
