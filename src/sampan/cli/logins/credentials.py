"""The user's logins at registries: in config.json, or with a credential helper that it names.

Source: docker/cli cli/config/configfile/file.go, cli/config/credentials.
"""

from __future__ import annotations

from sampan.cli.logins import credential_helpers as helpers
from sampan.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from sampan.cli.invocation import Invocation

TOKEN_NAME = "<token>"  # noqa: S105  the user name under which helpers keep identity tokens
UNENCRYPTED = """
WARNING! Your credentials are stored unencrypted in '{}'.
Configure a credential helper to remove this warning. See
https://docs.docker.com/go/credential-store/
"""


class Login:
    """What a user shows to one registry: a name with a password, or an identity token."""

    __slots__ = ("name", "password", "registry_token", "server", "token")

    def __init__(
        self,
        server: str = "",
        name: str = "",
        password: str = "",
        token: str = "",
        registry_token: str = "",
    ) -> None:
        self.server = server
        self.name = name
        self.password = password
        self.token = token
        self.registry_token = registry_token

    def document(self) -> dict[str, str]:
        """Return the API's AuthConfig, without what is empty."""
        fields = {
            "username": self.name,
            "password": self.password,
            "serveraddress": self.server,
            "identitytoken": self.token,
            "registrytoken": self.registry_token,
        }
        return {name: value for name, value in fields.items() if value}

    def stored(self) -> dict[str, str]:
        """Return the entry of config.json."""
        from base64 import b64encode

        known = self.name or self.password
        auth = b64encode(f"{self.name}:{self.password}".encode()).decode() if known else ""
        fields = {
            "auth": auth,
            "identitytoken": self.token,
            "registrytoken": self.registry_token,
        }
        return {name: value for name, value in fields.items() if value}


def find(cli: Invocation, server: str) -> Login:
    """Return the login at a server; an empty one if there is none.

    Raises Internal if a helper fails, InvalidArgument for a broken entry of config.json.
    """
    login = _in_file(cli, server)
    helper = _helper(cli, server)
    if helper:
        name, secret = helpers.get(helper, server)
        if name == TOKEN_NAME:
            login.name, login.password, login.token = "", "", secret
        else:
            login.name, login.password, login.token = name, secret, ""
        login.server = server if name or secret else ""
    return login


def save(cli: Invocation, login: Login) -> None:
    """Keep a login; a password that goes to config.json is warned about."""
    helper = _helper(cli, login.server)
    if helper:
        if login.token:
            helpers.store(helper, login.server, TOKEN_NAME, login.token)
        else:
            helpers.store(helper, login.server, login.name, login.password)
        login = Login(login.server)
    if _entries(cli.settings).get(login.server) == login.stored():
        return
    _change_entry(cli, login.server, login.stored())
    if login.password:
        cli.err.line(UNENCRYPTED.format(cli.settings_path()))
        cli.err.flush()


def erase(cli: Invocation, server: str) -> None:
    """Forget the login at a server. Raises Internal if a helper fails."""
    helper = _helper(cli, server)
    if helper:
        helpers.erase(helper, server)
    if server in _entries(cli.settings):
        _change_entry(cli, server, None)


def _change_entry(cli: Invocation, server: str, entry: dict[str, str] | None) -> None:
    def change(settings: dict[str, Any]) -> None:
        entries = _entries(settings)
        if entry is None:
            entries.pop(server, None)
        else:
            entries[server] = entry
        settings["auths"] = entries

    cli.change_settings(change)


def stored_name(cli: Invocation, server: str) -> str:
    """Return the user name that config.json has for a server; no helper is asked."""
    try:
        return _in_file(cli, server).name
    except InvalidArgument:
        return ""


def hostname(server: str) -> str:
    """Return host and port of what may be an URL: the key of a registry's login."""
    if "://" in server:
        from urllib.parse import urlsplit

        try:
            parts = urlsplit(server)
            port = parts.port
        except ValueError:
            parts = None
        if parts and parts.hostname:
            host = f"[{parts.hostname}]" if ":" in parts.hostname and port else parts.hostname
            return f"{host}:{port}" if port else host
    return server.partition("/")[0]


def _helper(cli: Invocation, server: str) -> str:
    settings = cli.settings
    chosen = settings.get("credHelpers")
    if isinstance(chosen, dict) and server in chosen:
        return str(chosen[server])
    store = cli.setting("credsStore")
    if not store and not chosen and not settings.get("auths"):
        store = helpers.default_store()
    return store


def _entries(settings: dict[str, Any]) -> dict[str, Any]:
    entries = settings.get("auths")
    return dict(entries) if isinstance(entries, dict) else {}


def _in_file(cli: Invocation, server: str) -> Login:
    entries = _entries(cli.settings)
    for key in _keys(entries, server):
        if isinstance(entries[key], dict):
            return _login(key, entries[key])
    return Login()


def _keys(entries: dict[str, Any], server: str) -> Iterator[str]:
    """Yield the server itself, else the keys that mean it in the way of old versions."""
    if server in entries:
        yield server
    else:
        yield from (key for key in entries if hostname(key) == server)


def _login(key: str, entry: dict[str, Any]) -> Login:
    name, password = str(entry.get("username", "")), str(entry.get("password", ""))
    if entry.get("auth"):
        name, password = _decoded(key, str(entry["auth"]))
    tokens = (str(entry.get(field, "")) for field in ("identitytoken", "registrytoken"))
    return Login(key, name, password, *tokens)


def _decoded(key: str, text: str) -> tuple[str, str]:
    from base64 import b64decode

    try:
        name, colon, password = b64decode(text, validate=True).decode().partition(":")
    except ValueError:
        name = colon = ""
    if not name or not colon:
        raise InvalidArgument(f"config.json has an invalid login for {key}")
    return name, password.strip("\0")
