#!/bin/sh
# Prints the path of an nginx for the tests behind a proxy; installs Debian's where there is none and we are root.
# Prints nothing where there is none to be had: the tests decide whether that is a skip or, with CI=true, a failure.
find_nginx() {
    for server in "$NOTIFIER_TEST_NGINX" nginx /usr/sbin/nginx; do
        [ -n "$server" ] && command -v "$server" && return
    done
    return 1
}

find_nginx && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "No nginx found: installing Debian's for the tests behind a proxy ..." >&2
    {
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light
    } >/dev/null || echo "Installing nginx failed: the tests behind a proxy go without." >&2
    find_nginx
fi
exit 0
