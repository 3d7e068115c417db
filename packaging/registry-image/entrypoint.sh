#!/bin/sh
# What docker-registry's images take: nothing, a configuration, `serve …`, `garbage-collect …`,
# `verify …`, or another program. Nobody works here as root unless the data is root's.
set -e

if [ $# = 0 ]; then
    config=/etc/docker/registry/config.yml
    [ -e /etc/distribution/config.yml ] && config=/etc/distribution/config.yml
    set -- registry serve "$config"
fi
case "$1" in
    *.yml | *.yaml) set -- registry serve "$@" ;;
    serve | garbage-collect | verify | -*) set -- registry "$@" ;;
esac
if [ "$1" != registry ] || [ "$(id -u)" != 0 ]; then
    exec "$@"
fi

# Where the data is: by the environment, else by the configuration, else the volume.
data=${REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY:-}
if [ -z "$data" ]; then
    for word; do
        case "$word" in
            *.yml | *.yaml)
                data=$(sed "s/#.*//; s/[\"']//g" "$word" |
                    sed -n 's/.*rootdirectory: *\([^],} ]*\).*/\1/p' | head -n 1)
                ;;
        esac
    done
    [ -d "$data" ] || data=/var/lib/registry # it may be a place in a bucket
fi
mkdir -p "$data" 2>/dev/null || true
owner=$(stat -c %u:%g "$data")
if [ "${owner%%:*}" = 0 ] && [ -z "$(ls -A "$data")" ] && chown registry:registry "$data" 2>/dev/null; then
    owner=$(stat -c %u:%g "$data")
fi
# A docker-registry of root's has written there, or the folder is mounted read-only: root without
# any capability can do no more than that takes.
drop="/usr/bin/setpriv --reuid ${owner%%:*} --regid ${owner##*:} --clear-groups --no-new-privs \
    --inh-caps=-all --bounding-set=-all"
if $drop true 2>/dev/null; then
    exec $drop "$@"
fi
exec "$@" # the container's own limits forbid the change
