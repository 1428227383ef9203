#!/bin/sh
# Prints the path of buildah, for the tests of the image; installs Debian's, and what makes a base image and a container
# without an engine, where one of them is missing and we are root. Prints nothing where there is none to be had: the
# tests decide whether that is a skip or, with CI=true, a failure.

# buildah builds; mmdebstrap makes the base; ip brings up loopback in a network of the container's own.
has_all() {
    for tool in buildah mmdebstrap ip; do
        command -v "$tool" >/dev/null || return
    done
}

install_all() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends buildah mmdebstrap iproute2
}

if ! has_all && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    echo "No buildah or mmdebstrap found: installing Debian's for the tests of the image (a few seconds) ..." >&2
    install_all >/dev/null || echo "Installing buildah failed: the tests of the image go without." >&2
fi
has_all && command -v buildah
exit 0
