"""From a checked configuration to the pages for browsers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from sampan.errors import InvalidArgument
from sampan.registry.application import Application
from sampan.registry.configuration.document import Checked

if TYPE_CHECKING:
    from sampan.registry.tokens.issuer import Issuer
    from sampan.registry.web.pages import Pages
    from sampan.registry.web.sign_in import SignIn


def pages(
    checked: Checked, application: Application, others: ASGIApp, issuer: Issuer | None
) -> Pages | None:
    """Return the pages of a registry; None if they are not wanted."""
    if not checked.get("web.enabled", False):
        return None
    from sampan.registry.web.pages import Pages  # templates: 6 MB

    return Pages(application, others, _sign_in(checked, issuer))


def _sign_in(checked: Checked, issuer: Issuer | None) -> SignIn | None:
    """Return who gives tokens to the users of browsers; None where there are none."""
    from sampan.registry.web.sign_in import IssuerSignIn, RealmSignIn

    look(checked)
    if checked.get("auth.token") is None:
        return None
    service = str(checked.get("auth.token.service"))
    if issuer and _is_own(checked):
        return IssuerSignIn(issuer, service)
    return RealmSignIn(str(checked.get("auth.token.realm")), service)


def look(checked: Checked) -> None:
    """Look whether users of browsers can sign in; raise InvalidArgument."""
    is_asked = checked.get("web.enabled", False) and checked.get("auth.token") is not None
    if not is_asked or _is_own(checked):
        return
    realm = str(checked.get("auth.token.realm", ""))
    if checked.get("auth.token.autoredirect") or not realm.startswith(("http://", "https://")):
        # The host of a realm that follows the request is anybody's: no password is taken there.
        raise InvalidArgument("web: users sign in at auth.token.realm, which must be an address")


def _is_own(checked: Checked) -> bool:
    """Tell whether the registry's own token service is the one that it trusts."""
    services = [str(name) for name in checked.get("tokens.services", [])]
    return str(checked.get("auth.token.service")) in services
