"""Every key of a registry's configuration, of docker-registry 2.x and 3.x and of ours.

Source: distribution configuration/configuration.go at v2.8.3 and v3.1.1, drivers' parameters.
"""

from __future__ import annotations

import sys

from sampan.registry.configuration import storages
from sampan.registry.configuration.nodes import (
    Anything,
    Boolean,
    Duration,
    Free,
    Integer,
    Many,
    Node,
    Section,
    Size,
    Text,
)
from sampan.registry.configuration.redis import REDIS

LEVELS = ("error", "warn", "info", "debug")
HEADERS = Free(Many(Text()))
LOG = Section(
    {
        "accesslog": Section({"disabled": Boolean()}),
        "level": Text(LEVELS, any_case=True),
        "formatter": Text(("text", "json", "logstash")),
        "fields": Free(Text()),
        "hooks": Many(
            Section(
                {
                    "disabled": Boolean(),
                    "type": Text(),
                    "levels": Many(Text()),
                    "options": Section(
                        {
                            "smtp": Section(
                                {
                                    "addr": Text(),
                                    "username": Text(),
                                    "password": Text(),
                                    "insecure": Boolean(),
                                }
                            ),
                            "from": Text(),
                            "to": Many(Text()),
                        }
                    ),
                },
                go={"options": "mailoptions"},
            )
        ),
        "reportcaller": Boolean(),
    }
)
DRIVERS = tuple(storages.DRIVERS)
STORAGE = Section(
    {
        **storages.DRIVERS,
        "state": Section({"directory": Text()}),  # ours
        "delete": Section({"enabled": Boolean()}),
        "redirect": Section({"disable": Boolean()}),
        "cache": Section(
            {
                "blobdescriptor": Text(("inmemory", "redis", "")),
                "layerinfo": Text(("inmemory", "redis", "")),
                "blobdescriptorsize": Integer(),
            }
        ),
        "maintenance": Section(
            {
                "uploadpurging": Section(
                    {
                        "enabled": Boolean(),
                        "age": Duration(),
                        "interval": Duration(),
                        "dryrun": Boolean(),
                    }
                ),
                "readonly": Section({"enabled": Boolean()}),
                "beside": Section({"interval": Duration()}),  # ours
                "garbagecollection": Section(  # ours
                    {
                        "enabled": Boolean(),
                        "interval": Duration(),
                        "delay": Duration(),
                        "untagged": Boolean(),
                    }
                ),
            }
        ),
        "tag": Section({"concurrencylimit": Integer()}),
    },
    word=True,
)
AUTH = Section(
    {
        "none": Section({}),
        "silly": Section({"realm": Text(needed=True), "service": Text(needed=True)}),
        "htpasswd": Section({"realm": Text(needed=True), "path": Text(needed=True)}),
        "token": Section(
            {
                "realm": Text(),
                "service": Text(needed=True),
                "issuer": Text(needed=True),
                "rootcertbundle": Text(),
                "jwks": Text(),
                "signingalgorithms": Many(Text()),
                "autoredirect": Boolean(),
                "autoredirectpath": Text(),
            }
        ),
    },
    word=True,
)
_MIDDLEWARE = Many(
    Section({"name": Text(needed=True), "disabled": Boolean(), "options": Free(Anything())})
)
HTTP = Section(
    {
        "addr": Text(),
        "net": Text(("tcp", "unix", "")),
        "prefix": Text(),
        "host": Text(),
        "secret": Text(),
        "relativeurls": Boolean(),
        "draintimeout": Duration(),
        "tls": Section(
            {
                "certificate": Text(),
                "key": Text(),
                "clientcas": Many(Text()),
                "clientauth": Text(
                    (
                        "request-client-cert",
                        "require-any-client-cert",
                        "verify-client-cert-if-given",
                        "require-and-verify-client-cert",
                        "",
                    )
                ),
                "minimumtls": Text(("", "tls1.0", "tls1.1", "tls1.2", "tls1.3")),
                "ciphersuites": Many(Text()),
                "letsencrypt": Section(
                    {
                        "cachefile": Text(),
                        "email": Text(),
                        "hosts": Many(Text()),
                        "directoryurl": Text(),
                    }
                ),
            }
        ),
        "debug": Section(
            {
                "addr": Text(),
                "prometheus": Section({"enabled": Boolean(), "path": Text()}),
            }
        ),
        "headers": HEADERS,
        "http2": Section({"disabled": Boolean()}),
        "h2c": Section({"enabled": Boolean()}),
        "clients": Section(  # ours
            {"connections": Integer(1), "requests": Integer(1), "proxies": Many(Text())}
        ),
    }
)
NOTIFICATIONS = Section(
    {
        "events": Section({"includereferences": Boolean()}),
        "endpoints": Many(
            Section(
                {
                    "name": Text(needed=True),
                    "disabled": Boolean(),
                    "url": Text(needed=True),
                    "headers": HEADERS,
                    "timeout": Duration(),
                    "threshold": Integer(),
                    "backoff": Duration(),
                    "ignoredmediatypes": Many(Text()),
                    "ignore": Section({"mediatypes": Many(Text()), "actions": Many(Text())}),
                    "version": Text(("v1", "v2")),  # ours
                }
            )
        ),
    },
    go={"events": "eventconfig"},
)
_PERIODIC: dict[str, Node] = {"interval": Duration(), "threshold": Integer()}
HEALTH = Section(
    {
        "storagedriver": Section({"enabled": Boolean(), **_PERIODIC}),
        "file": Many(Section({"file": Text(needed=True), **_PERIODIC})),
        "http": Many(
            Section(
                {
                    "uri": Text(needed=True),
                    "headers": HEADERS,
                    "statuscode": Integer(),
                    "timeout": Duration(),
                    **_PERIODIC,
                }
            )
        ),
        "tcp": Many(Section({"addr": Text(needed=True), "timeout": Duration(), **_PERIODIC})),
    },
    go={"file": "filecheckers", "http": "httpcheckers", "tcp": "tcpcheckers"},
)
VALIDATION = Section(
    {
        "enabled": Boolean(),
        "disabled": Boolean(),
        "manifests": Section(
            {
                "urls": Section({"allow": Many(Text()), "deny": Many(Text())}),
                "indexes": Section(
                    {
                        "platforms": Text(("", "all", "none", "list"), any_case=True),
                        "platformlist": Many(Section({"architecture": Text(), "os": Text()})),
                    }
                ),
            }
        ),
    }
)
QUOTAS = Many(  # ours
    Section(
        {
            "repositories": Text(needed=True),
            "size": Size(),
            "tags": Integer(),
            "uploads": Integer(1),
            "together": Boolean(),
        }
    )
)
RETENTION = Section(  # ours
    {
        "interval": Duration(),
        "dryrun": Boolean(),
        "rules": Many(
            Section(
                {
                    "repositories": Many(Text(), needed=True),
                    "tags": Many(Text()),
                    "protected": Many(Text()),
                    "keeplast": Integer(),
                    "keepwithin": Duration(),
                    "untagged": Duration(),
                }
            ),
            needed=True,
        ),
    }
)
SCRUB = Section(  # ours
    {
        "enabled": Boolean(),
        "interval": Duration(),
        "rate": Size(),
        "report": Boolean(),
    }
)
AUDIT = Section(  # ours
    {"path": Text(needed=True), "keyfile": Text(), "ignore": Many(Text())}
)
METADATA = Section({"postgresql": Text(needed=True), "worker": Text()})  # ours
TOKENS = Section(  # ours
    {
        "directory": Text(needed=True),
        "issuer": Text(needed=True),
        "services": Many(Text(), needed=True),
        "path": Text(),
        "lifetime": Duration(),
        "refresh": Section({"lifetime": Duration(), "rotate": Boolean()}),
        "keys": Section(
            {
                "algorithm": Text(("ES256", "RS256")),
                "interval": Duration(),
                "certificates": Boolean(),
            }
        ),
        "attempts": Section({"name": Integer(1), "address": Integer(1)}),
    }
)
_UPSTREAM: dict[str, Node] = {
    "remoteurl": Text(),
    "username": Text(),
    "password": Text(),
    "ttl": Duration(),
    "exec": Section({"command": Text(), "lifetime": Duration()}),
    # The rest is ours.
    "namespaces": Many(Text()),
    "tokenhosts": Many(Text()),
    "networks": Many(Text()),
    "mirror": Many(
        Section(
            {
                "repositories": Many(Text(), needed=True),
                "tags": Many(Text()),
                "platforms": Many(Text()),
                "interval": Duration(),
                "cron": Text(),
            }
        )
    ),
}
PROXY = Section(
    {
        **_UPSTREAM,
        "cachewritetimeout": Duration(),
        "local": Many(Text()),  # ours
        "maxsize": Size(),  # ours
        "upstreams": Many(  # ours
            Section({"name": Text(), "prefix": Text(), "maxsize": Size(), **_UPSTREAM})
        ),
    }
)
ROOT = Section(
    {
        "version": Text(needed=True),
        "log": LOG,
        "loglevel": Text((*LEVELS, ""), any_case=True),
        "storage": STORAGE,
        "auth": AUTH,
        "middleware": Section(dict.fromkeys(("registry", "repository", "storage"), _MIDDLEWARE)),
        "reporting": Section(
            {
                "bugsnag": Section({"apikey": Text(), "releasestage": Text(), "endpoint": Text()}),
                "newrelic": Section({"licensekey": Text(), "name": Text(), "verbose": Boolean()}),
            }
        ),
        "http": HTTP,
        "notifications": NOTIFICATIONS,
        "redis": REDIS,
        "health": HEALTH,
        "proxy": PROXY,
        "compatibility": Section(
            {
                "schema1": Section(
                    {"signingkeyfile": Text(), "enabled": Boolean()},
                    go={"signingkeyfile": "trustkey"},
                )
            }
        ),
        "validation": VALIDATION,
        "policy": Section({"repository": Section({"classes": Many(Text())})}),
        "catalog": Section({"maxentries": Integer(-sys.maxsize)}),  # less than one: the default
        "tags": Section({"maxtags": Integer()}),  # 0: the default
        "web": Section({"enabled": Boolean()}),
        "tokens": TOKENS,
        "quotas": QUOTAS,
        "retention": RETENTION,
        "metadata": METADATA,
        "audit": AUDIT,
        "scrub": SCRUB,
    }
)
