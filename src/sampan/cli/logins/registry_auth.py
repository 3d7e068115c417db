"""The user's login at a registry, as the X-Registry-Auth header wants it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.cli.invocation import Invocation
    from sampan.cli.logins.credentials import Login

HUB_DOMAINS = ("docker.io", "index.docker.io")
HUB_KEY = "https://index.docker.io/v1/"


def key_of(domain: str) -> str:
    """Return the key under which the login at a registry's domain is stored."""
    return HUB_KEY if domain in HUB_DOMAINS else domain


def authorization(cli: Invocation, domain: str, strict: bool = False) -> str:
    """Return the header for a registry's domain; empty without a login.

    A credential helper that fails counts as no login, unless `strict`: then Internal is raised.
    """
    if not _may_have_login(cli):
        return ""
    from sampan.cli.logins.credentials import find
    from sampan.errors import SampanError

    try:
        login = find(cli, key_of(domain))
    except SampanError:
        if strict:
            raise
        return ""
    return header(login)


def header(login: Login) -> str:
    """Return a login as URL-safe base64 of its JSON document; empty if it is empty."""
    document = login.document()
    return encoded(document) if document else ""


def encoded(document: object) -> str:
    """Return a document as URL-safe base64 of its JSON."""
    from binascii import b2a_base64

    from sampan.client import documents

    text = b2a_base64(documents.encode(document), newline=False)
    return text.translate(bytes.maketrans(b"+/", b"-_")).decode()


def _may_have_login(cli: Invocation) -> bool:
    """Whether there can be any login: else the import of what reads them is saved."""
    if any(cli.settings.get(name) for name in ("auths", "credsStore", "credHelpers")):
        return True
    from sampan.cli.logins.credential_helpers import default_store

    return bool(default_store())
