"""From a checked configuration to what the registry is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.errors import InvalidArgument
from sampan.http.urls import redacted
from sampan.registry.auth.access import Access, NoAccess
from sampan.registry.configuration.document import Checked
from sampan.registry.configuration.nodes import seconds
from sampan.registry.configuration.schema import DRIVERS
from sampan.registry.content.documents import PlatformRules, UrlRules, Validation
from sampan.registry.drivers.choice import OBJECTS, open_objects
from sampan.registry.drivers.driver import Driver
from sampan.registry.drivers.inmemory import InMemoryDriver
from sampan.registry.drivers.objects.driver import ObjectDriver
from sampan.registry.expressions import Expression, expression
from sampan.registry.observability.health import Check, answers, connects, file_is_absent
from sampan.registry.observability.notifications import Endpoint
from sampan.registry.registry import OWN, Registry
from sampan.registry.service import Service
from sampan.registryd import descriptors, governing, middlewares

if TYPE_CHECKING:
    from sampan.registryd.mail import Mailbox

DEFAULT_ROOT = "/var/lib/registry"
DEFAULT_REALM_PATH = "/auth/token"
HOUR = 3600.0


@dataclass(frozen=True)
class Purging:
    """How old uploads end."""

    enabled: bool
    age: float
    interval: float
    dry_run: bool


@dataclass(frozen=True)
class Collecting:
    """How garbage is collected while the registry serves."""

    enabled: bool
    delay: float
    interval: float
    untagged: bool


def storage_kind(checked: Checked) -> str:
    """Return which driver keeps the registry; empty where there is none."""
    storage = checked.document.get("storage") or {}
    return storage if isinstance(storage, str) else next((k for k in DRIVERS if k in storage), "")


def has_storage(checked: Checked) -> bool:
    """Tell whether there is a registry, and not only a token service."""
    return bool(checked.document.get("storage"))


def open_registry(checked: Checked) -> Registry:
    """Open the registry that a configuration describes."""
    kind = storage_kind(checked)
    rules = validation(checked)
    limits = governing.quotas(checked)
    shared = governing.shared(checked)
    if kind == "inmemory":
        found = Registry.in_memory(rules)
    elif kind == "filesystem":
        root = str(checked.get("storage.filesystem.rootdirectory", DEFAULT_ROOT))
        found = Registry.on_filesystem(root, rules, shared)
    else:
        state = Path(checked.get("storage.state.directory", DEFAULT_ROOT))
        found = Registry.on_objects(open_storage(checked), state, rules, shared)
    try:
        found.quotas.define(limits)
        found.use(middlewares.addresses(checked, found.driver))
        descriptors.keep(checked, found)
    except BaseException:
        found.close()
        raise
    return found


def own_folder(checked: Checked) -> Path | None:
    """Return where our own files of a registry are; None for one in memory, or none at all."""
    kind = storage_kind(checked)
    if kind in ("", "inmemory"):
        return None
    key = "filesystem.rootdirectory" if kind == "filesystem" else "state.directory"
    own = Path(str(checked.get(f"storage.{key}", DEFAULT_ROOT)), OWN)
    shared = governing.shared(checked)
    return shared.folder(own) if shared and kind == "filesystem" else own


def open_storage(checked: Checked) -> ObjectDriver:
    """Open the object storage of a configuration, without asking whether it is there."""
    kind = storage_kind(checked)
    return open_objects(kind, checked.get(f"storage.{kind}", {}))


def try_storage(checked: Checked) -> None:
    """Look whether the storage's options will do, without asking it; raise InvalidArgument."""
    is_away = storage_kind(checked) in OBJECTS
    driver: Driver = open_storage(checked) if is_away else InMemoryDriver()
    try:
        middlewares.addresses(checked, driver).close()
    finally:
        driver.close()


def validation(checked: Checked) -> Validation:
    """Return what manifests are checked for."""

    def patterns(name: str) -> tuple[Expression, ...]:
        listed = checked.get(f"validation.manifests.urls.{name}", [])
        return tuple(expression(str(pattern)) for pattern in listed)

    # `enabled`, the older of the two, comes first where both are there.
    disabled = checked.get("validation.disabled", False) and not checked.get(
        "validation.enabled", False
    )
    listed = checked.get("validation.manifests.indexes.platformlist", [])
    platforms = tuple((str(item.get("os")), str(item.get("architecture"))) for item in listed)
    mode = str(checked.get("validation.manifests.indexes.platforms") or "all").lower()
    return Validation(
        UrlRules(disabled, patterns("allow"), patterns("deny")),
        PlatformRules("none" if disabled else mode, platforms),
    )


def service(checked: Checked) -> Service:
    """Return how requests are answered."""
    headers = {
        str(name): [str(value) for value in values]
        for name, values in checked.get("http.headers", {}).items()
    }
    return Service(
        prefix=str(checked.get("http.prefix", "/")),
        host=str(checked.get("http.host", "")).rstrip("/"),
        relative_urls=checked.get("http.relativeurls", False),
        headers=headers,
        redirect=(storage_kind(checked) in OBJECTS or middlewares.are_wanted(checked))
        and not checked.get("storage.redirect.disable", False),
        deletes=checked.get("storage.delete.enabled", False),
        read_only=checked.get("storage.maintenance.readonly.enabled", False),
        catalog_max=most if (most := checked.get("catalog.maxentries", 0)) > 0 else 1000,
        classes=[str(name) for name in checked.get("policy.repository.classes", [])],
        tags_max=checked.get("tags.maxtags", 0),
    )


def access(checked: Checked) -> Access:
    """Return who finds out who clients are."""
    auth: Any = checked.get("auth", {})
    if isinstance(auth, str):
        auth = {auth: {}}
    for kind, given in auth.items():
        options = {name: str(value) for name, value in (given or {}).items()}
        # Each when it is wanted: cryptography alone takes a third of the time of a start.
        if kind == "silly":
            from sampan.registry.auth.silly import Silly

            return Silly(options["realm"], options["service"])
        if kind == "htpasswd":
            from sampan.registry.auth.htpasswd import Htpasswd

            return Htpasswd(options["realm"], options["path"])
        if kind == "token":
            from sampan.registry.auth.token import Token, TrustedFiles

            path = options.get("autoredirectpath") or DEFAULT_REALM_PATH
            return Token(
                options.get("realm", ""),
                options["service"],
                options["issuer"],
                TrustedFiles(options.get("rootcertbundle", ""), options.get("jwks", "")),
                [str(name) for name in given.get("signingalgorithms") or []],
                path if given.get("autoredirect") else "",
            )
    return NoAccess()


def try_algorithms(checked: Checked) -> None:
    """Look whether tokens can be signed as is said; raise InvalidArgument."""
    if listed := checked.get("auth.token.signingalgorithms"):
        from sampan.registry.auth.token import verifiable

        verifiable([str(name) for name in listed])


def purging(checked: Checked) -> Purging:
    """Return how old uploads end: after a week, looked for once a day."""
    place = "storage.maintenance.uploadpurging"
    return Purging(
        checked.get(f"{place}.enabled", True),
        seconds(checked.get(f"{place}.age", "168h")),
        seconds(checked.get(f"{place}.interval", "24h")),
        checked.get(f"{place}.dryrun", False),
    )


def looking(checked: Checked) -> float:
    """Return how often, in seconds, it is looked at what others have written; 0: never.

    A minute on file systems. In buckets each look is a list of all repositories, which costs money.
    """
    usual = "1m" if storage_kind(checked) == "filesystem" else "0"
    return seconds(checked.get("storage.maintenance.beside.interval", usual))


def collecting(checked: Checked) -> Collecting:
    """Return how garbage is collected: not at all, unless it is asked for."""
    place = "storage.maintenance.garbagecollection"
    found = Collecting(
        checked.get(f"{place}.enabled", False),
        seconds(checked.get(f"{place}.delay", "24h")),
        seconds(checked.get(f"{place}.interval", "24h")),
        checked.get(f"{place}.untagged", False),
    )
    if found.enabled and (found.delay < HOUR / 60 or found.interval <= 0):
        raise InvalidArgument(
            f"{place}: the delay must be at least a minute, and longer than a push takes"
        )
    return found


def certificate_paths(checked: Checked) -> tuple[Path, Path] | None:
    """Return the files of the server's certificate and key; None without TLS."""
    certificate = checked.get("http.tls.certificate")
    return (Path(certificate), Path(checked.get("http.tls.key"))) if certificate else None


def endpoints(checked: Checked) -> list[Endpoint]:
    """Return who is told of events."""
    found = []
    for given in checked.get("notifications.endpoints", []):
        if given.get("disabled"):
            continue
        ignore = given.get("ignore") or {}
        types = [*(given.get("ignoredmediatypes") or []), *(ignore.get("mediatypes") or [])]
        found.append(
            Endpoint(
                str(given["name"]),
                str(given["url"]),
                given.get("headers") or {},
                _positive(given.get("timeout"), 1.0),
                given.get("threshold") or 10,
                _positive(given.get("backoff"), 1.0),
                frozenset(types),
                frozenset(ignore.get("actions") or []),
                given.get("version") or "v1",
            )
        )
    if len({endpoint.name for endpoint in found}) < len(found):
        raise InvalidArgument("notifications.endpoints: two have the same name")
    return found


def mailboxes(checked: Checked) -> list[Mailbox]:
    """Return where log records are mailed to."""
    found: list[Mailbox] = []
    for number, hook in enumerate(checked.get("log.hooks", [])):
        if hook.get("disabled"):
            continue
        from sampan.registryd.mail import LEVELS, Mailbox

        place = f"log.hooks[{number}]"
        options = hook.get("options") or {}
        smtp = options.get("smtp") or {}
        host, _, port = str(smtp.get("addr", "")).rpartition(":")
        if not host or not port.isdecimal():
            raise InvalidArgument(f"{place}.options.smtp.addr: must be host:port")
        if not options.get("from") or not options.get("to"):
            raise InvalidArgument(f"{place}.options: from and to are required")
        unknown = set(hook.get("levels") or []) - LEVELS.keys()
        if unknown or not hook.get("levels"):
            raise InvalidArgument(f"{place}.levels: must be some of {', '.join(LEVELS)}")
        found.append(
            Mailbox(
                *(host, int(port), str(options["from"]), [str(name) for name in options["to"]]),
                frozenset(LEVELS[level] for level in hook["levels"]),
                str(smtp.get("username") or ""),
                str(smtp.get("password") or ""),
                bool(smtp.get("insecure")),
            )
        )
    return found


def _positive(value: object, default: float) -> float:
    found = seconds(value) if value is not None else 0.0
    return found if found > 0 else default


def checks(checked: Checked, storage: Callable[[], None]) -> list[Check]:
    """Return the health checks; `storage` raises OSError if the storage cannot be used."""
    found = []
    given = checked.get("health.storagedriver", {})
    if given.get("enabled"):
        found.append(_check("storagedriver_" + storage_kind(checked), storage, given))
    for given in checked.get("health.file", []):
        path = str(given["file"])
        found.append(_check(path, partial(file_is_absent, path), {**given, "threshold": 1}))
    for given in checked.get("health.http", []):
        uri = str(given["uri"])
        status = given.get("statuscode") or 200
        timeout = seconds(given.get("timeout") or 0)
        probe = partial(answers, uri, status, given.get("headers") or {}, timeout)
        found.append(_check(redacted(uri), probe, given))
    for given in checked.get("health.tcp", []):
        address = str(given["addr"])
        timeout = seconds(given.get("timeout") or 0)
        found.append(_check(address, partial(connects, address, timeout), given))
    return found


def _check(name: str, probe: Callable[[], None], given: Mapping[str, Any]) -> Check:
    interval = _positive(given.get("interval"), 10.0)
    return Check(name, probe, interval, given.get("threshold") or 1)
