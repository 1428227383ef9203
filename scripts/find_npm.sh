#!/bin/sh
# Prints the path of npm, with which the JavaScript client is built and its types are checked; installs Debian's where
# there is none and we are root.
# Prints nothing where there is none to be had: the tests decide whether that is a skip or, with CI=true, a failure.
find_npm() {
    for tool in "$NOTIFIER_TEST_NPM" npm; do
        [ -n "$tool" ] && command -v "$tool" && return
    done
    return 1
}

find_npm && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "No npm found: installing Debian's for the tests of the JavaScript client (a minute or two) ..." >&2
    {
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm
    } >/dev/null || echo "Installing npm failed: the tests of the JavaScript client go without." >&2
    find_npm
fi
exit 0
