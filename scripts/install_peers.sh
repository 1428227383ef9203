#!/bin/sh
# Installs the servers that notifier is compared with, where they are missing and we are root: Debian's nginx with nchan,
# NATS and Mosquitto. None becomes a service. What is missing all the same is told by the comparison.
set -- nginx nats-server mosquitto
missing=
for program; do
    PATH="$PATH:/usr/sbin" command -v "$program" >/dev/null || missing=yes
done
[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] || missing=yes
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "nginx with nchan, nats-server or mosquitto is missing, and only root can install them here." >&2
    exit 0
fi

# Debian starts a service as it installs it, unless this file says no. One that is there already is the machine's own
# rule and stays; where it allows the start, the service is stopped again.
policy=/usr/sbin/policy-rc.d
install_peers() {
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" || return
    fi
    before=
    for service; do PATH="$PATH:/usr/sbin" command -v "$service" >/dev/null && before="$before $service"; done
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends --no-upgrade \
        nginx libnginx-mod-nchan nats-server mosquitto || return
    for service; do
        # What was installed before is somebody's, and goes on as it was.
        case "$before " in *" $service "*) continue ;; esac
        { update-rc.d "$service" disable; invoke-rc.d "$service" stop; } 2>/dev/null || true
    done
}

echo "Installing Debian's nchan, NATS and Mosquitto for the comparison, not as services (a minute) ..." >&2
install_peers "$@" >/dev/null || echo "Installing them failed: the comparison goes without." >&2
exit 0
