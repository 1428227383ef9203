#!/bin/sh
# Prints the path of a Helm for the chart's tests; builds it from its Go module where there is none and Go is there.
# Prints nothing where there is none to be had: the tests decide whether that is a skip or, with CI=true, a failure.
version=v3.22.0
built="$(cd "$(dirname "$0")/.." && pwd)/build/helm"

find_helm() {
    for helm in "$NOTIFIER_TEST_HELM" helm "$built/helm"; do
        [ -n "$helm" ] && helm=$(command -v "$helm") && "$helm" version >/dev/null 2>&1 && echo "$helm" && return
    done
    return 1
}

find_helm && exit 0
mkdir -p "$built"
if command -v go >/dev/null; then
    echo "No Helm found: building $version for the chart's tests (some minutes the first time) ..." >&2
    # Outside of any module, and without symbols that nobody debugs: the link is the longest step of a second build.
    (cd / && GOBIN="$built" GOFLAGS="$GOFLAGS -buildvcs=false" CGO_ENABLED=0 \
        go install -ldflags "-s -w" "helm.sh/helm/v3/cmd/helm@$version") >/dev/null 2>"$built.log" ||
        echo "Building Helm failed, see $built.log: the tests of the chart go without." >&2
    find_helm
fi
exit 0
