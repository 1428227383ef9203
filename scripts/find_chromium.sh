#!/bin/sh
# Prints the path of a Chromium for the browser tests; installs Debian's where there is none and we are root.
# Prints nothing where there is none to be had: the tests decide whether that is a skip or, with CI=true, a failure.
find_chromium() {
    for browser in "$NOTIFIER_TEST_CHROMIUM" chromium chromium-browser google-chrome; do
        [ -n "$browser" ] && command -v "$browser" && return
    done
    return 1
}

find_chromium && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "No Chromium found: installing Debian's for the browser tests (a minute or two) ..." >&2
    {
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium
    } >/dev/null || echo "Installing Chromium failed: the browser tests go without." >&2
    find_chromium
fi
exit 0
