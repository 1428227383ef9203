# The image of notifier. `docker build --tag notifier .`, or `buildah bud --tag notifier .`
#
# BASE is any Debian-like image with Python 3.11 or newer and its venv module. Name it by digest where builds must repeat
# (BASE=docker.io/library/python:3.13-slim@sha256:...): the tag moves with its security fixes.
ARG BASE=docker.io/library/python:3.13-slim

FROM ${BASE} AS build
# Which lock in requirements/ is installed: image is server with traces and with the client of Redis, off until asked for.
ARG REQUIREMENTS=image
# Seconds since 1970; every file of ours carries it, so that equal sources make equal files.
ARG SOURCE_DATE_EPOCH=315532800
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
# The image's environment has no pip: what is not there needs no update.
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/notifier
WORKDIR /source
COPY requirements requirements
# A secret `pip` is a pip.conf, for a mirror or a proxy: no layer keeps it. Wheels only: nothing here compiles C.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /build/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements/build.txt && \
    /build/bin/pip --python /opt/notifier/bin/python install --quiet --require-hashes --only-binary :all: \
      -r "requirements/${REQUIREMENTS}.txt"
COPY pyproject.toml README.md LICENSE ./
COPY notifier notifier
# Bytecode is made once, here: nothing can write it at run time. Unchecked, as the sources beside it never change; a hash
# of them stands in it where a time would.
RUN /build/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /wheels . && \
    /build/bin/pip --python /opt/notifier/bin/python install --quiet --no-index --no-deps /wheels/*.whl && \
    /opt/notifier/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/notifier/lib && \
    find /opt/notifier -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

# No RUN from here on: this stage needs neither a shell nor a package manager in its base.
FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="notifier" \
      org.opencontainers.image.description="A notification push service over WebSocket" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/notifier /opt/notifier
# Both ports listen on every address of the container: a probe comes from outside of it. Publish 8000 alone.
ENV PATH=/opt/notifier/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NOTIFIER_HTTP__HOST=0.0.0.0 \
    NOTIFIER_OPERATIONS__HOST=0.0.0.0
EXPOSE 8000 9000
# A number, so that Kubernetes can tell it is not root. Any other one works as well: nothing belongs to it.
USER 65532:65532
# Exec form: the service itself is process 1, and hears SIGTERM.
ENTRYPOINT ["/opt/notifier/bin/notifier"]
CMD ["serve"]
