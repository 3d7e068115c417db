"""From the section `proxy` of a configuration to the upstreams of a cache."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from sampan.errors import InvalidArgument
from sampan.http.urls import Url, redacted
from sampan.registry import names
from sampan.registry.configuration.document import Checked
from sampan.registry.configuration.nodes import seconds, size
from sampan.registry.errors import RegistryError
from sampan.registry.proxy.logins import HelperLogin, Login
from sampan.registry.proxy.schedules import Mirroring
from sampan.registry.proxy.upstreams import WEEK, Places, Upstream, own_namespaces

LEAST_INTERVAL = 60.0  # seconds between two rounds of mirroring


def places(checked: Checked) -> Places | None:
    """Return what is cached from where; None if nothing is. Raises InvalidArgument."""
    given = checked.get("proxy", {})
    found = []
    if given.get("remoteurl"):
        found.append(_upstream({**given, "name": given.get("name")}, "proxy"))
    for number, one in enumerate(given.get("upstreams") or []):
        place = f"proxy.upstreams[{number}]"
        if not one.get("remoteurl"):
            raise InvalidArgument(f"{place}.remoteurl: is required")
        found.append(_upstream(one, place))
    for what in ("name", "prefix"):
        seen = [getattr(upstream, what) for upstream in found]
        twice = next((one for one in seen if seen.count(one) > 1), None)
        if twice is not None:
            raise InvalidArgument(f"proxy: two upstreams have the {what} {twice!r}")
    local = [str(pattern) for pattern in given.get("local") or []]
    return Places(found, local, _size(given)) if found else None


def _upstream(given: Mapping[str, Any], place: str) -> Upstream:
    text = str(given["remoteurl"])
    try:
        url = Url.parse(text)
    except InvalidArgument:
        url = None
    if url is None or url.user_info or "?" in url.target:
        raise InvalidArgument(f"{place}.remoteurl: {redacted(text)!r} is no address of a registry")
    prefix = str(given.get("prefix") or "").strip("/")
    if prefix:
        try:
            names.repository(prefix)
        except RegistryError:
            raise InvalidArgument(f"{place}.prefix: {prefix!r} begins no name") from None
    life = given.get("ttl")
    return Upstream(
        name=str(given.get("name") or url.authority),
        url=url,
        prefix=f"{prefix}/" if prefix else "",
        namespaces=tuple(map(str, given.get("namespaces") or own_namespaces(url))),
        login=_login(given, text, place),
        ttl=WEEK if life is None else max(seconds(life), 0.0),
        token_hosts=tuple(str(host).lower() for host in given.get("tokenhosts") or []),
        networks=_networks(given.get("networks") or [], f"{place}.networks"),
        max_size=_size(given) if place != "proxy" else None,  # there it is that of all
        mirroring=tuple(
            _mirroring(one, f"{place}.mirror[{number}]")
            for number, one in enumerate(given.get("mirror") or [])
        ),
    )


def _size(given: Mapping[str, Any]) -> int | None:
    return None if given.get("maxsize") is None else size(given["maxsize"])


def _login(given: Mapping[str, Any], server: str, place: str) -> Login:
    helper = given.get("exec") or {}
    if helper.get("command"):
        if given.get("username"):
            raise InvalidArgument(f"{place}: either username or exec, not both")
        life = helper.get("lifetime")
        return HelperLogin(
            str(helper["command"]), server, None if life is None else max(seconds(life), 0.0)
        )
    return Login(str(given.get("username") or ""), str(given.get("password") or ""))


def _networks(
    given: Sequence[object], place: str
) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    try:
        return tuple(ipaddress.ip_network(str(text), strict=False) for text in given)
    except ValueError as error:
        raise InvalidArgument(f"{place}: {error}") from None


def _mirroring(given: Mapping[str, Any], place: str) -> Mirroring:
    interval = given.get("interval")
    try:
        found = Mirroring(
            tuple(map(str, given["repositories"])),
            tuple(map(str, given.get("tags") or ["*"])),
            tuple(map(str, given.get("platforms") or [])),
            0.0 if interval is None else seconds(interval),
            str(given.get("cron") or ""),
        )
    except InvalidArgument as error:
        raise InvalidArgument(f"{place}: {error}") from None
    if found.interval and found.interval < LEAST_INTERVAL:
        raise InvalidArgument(f"{place}.interval: must be at least a minute")
    return found
