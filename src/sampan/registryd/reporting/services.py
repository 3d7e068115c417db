"""From a checked configuration to the services that errors and transactions are reported to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.util import find_spec
from urllib.parse import urlsplit

from starlette.types import ASGIApp

from sampan.errors import InvalidArgument
from sampan.registry.configuration.document import Checked

KEYS = {"bugsnag": "apikey", "newrelic": "licensekey"}
NAME = "registry"  # at New Relic, where the configuration gives none
Wrap = Callable[[ASGIApp], ASGIApp]


def _is_wanted(checked: Checked, kind: str) -> bool:
    return bool(checked.get(f"reporting.{kind}.{KEYS[kind]}"))


def look(checked: Checked) -> None:
    """Look whether all is there that reports need, and send none. Raises InvalidArgument."""
    for kind in KEYS:
        if _is_wanted(checked, kind) and find_spec(kind) is None:
            raise InvalidArgument(
                f"reporting.{kind}: {kind} is missing: install sampan[registry-{kind}]"
            )
    endpoint = str(checked.get("reporting.bugsnag.endpoint") or "")
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise InvalidArgument("reporting.bugsnag.endpoint: must be an address of http or https")


def begin(checked: Checked, stack: AsyncExitStack) -> Wrap:
    """Begin to report, until the stack ends; return what is put around an application.

    Raises InvalidArgument.
    """
    look(checked)
    wraps: list[Wrap] = []
    if _is_wanted(checked, "bugsnag"):
        from sampan.registryd.reporting.bugsnag import Bugsnag  # 5 MB

        bugsnag = Bugsnag(
            str(checked.get("reporting.bugsnag.apikey")),
            str(checked.get("reporting.bugsnag.releasestage") or ""),
            str(checked.get("reporting.bugsnag.endpoint") or ""),
        )
        wraps.append(stack.enter_context(bugsnag).around)
    if _is_wanted(checked, "newrelic"):
        from sampan.registryd.reporting.newrelic import NewRelic  # 20 MB

        newrelic = NewRelic(
            str(checked.get("reporting.newrelic.licensekey")),
            str(checked.get("reporting.newrelic.name") or NAME),
            bool(checked.get("reporting.newrelic.verbose")),
        )
        wraps.append(stack.enter_context(newrelic).around)

    def around(application: ASGIApp) -> ASGIApp:
        for wrap in wraps:
            application = wrap(application)
        return application

    return around
