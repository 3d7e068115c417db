"""Addresses of the web: checked once, then plain data."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit, urlunsplit

from sampan.errors import InvalidArgument

PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")
_ADDRESS6 = re.compile(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")
# Each part of a text is looked at once: who chooses it may make it long.
_USER_INFO = re.compile(r"""(?<=://)[^\s/?#"<>]*(?=@)""")
_LENGTH = 16 << 10
_SAFE = "!#$%&'()*+,/:;=?@[]~"  # what may stand in a target; the rest is escaped


@dataclass(frozen=True, slots=True)
class Url:
    """An http or https address."""

    scheme: str
    host: str  # without brackets
    port: int
    target: str  # path and query
    user_info: str = ""  # name:password; not for registries

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the address that `text` is; raise InvalidArgument if it is none."""
        try:
            if len(text) > _LENGTH:
                raise ValueError
            parts = urlsplit(text)
            scheme, host, port = parts.scheme.lower(), parts.hostname or "", parts.port
        except ValueError as error:
            raise InvalidArgument(f"invalid address: {redacted(text)[:200]!r}") from error
        known = _HOST.fullmatch(host) or (":" in host and _ADDRESS6.fullmatch(host))
        if scheme not in PORTS or not known or port == 0:
            raise InvalidArgument(f"invalid address: {redacted(text)[:200]!r}")
        target = parts.path or "/"
        if parts.query:
            target += f"?{parts.query}"
        user_info = parts.netloc.rpartition("@")[0]
        return cls(scheme, host, port or PORTS[scheme], quote(target, safe=_SAFE), user_info)

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them: no port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def login(self) -> str:
        """The name and the password as a header has them (RFC 7617)."""
        name, _, password = self.user_info.partition(":")
        pair = unquote_to_bytes(name) + b":" + unquote_to_bytes(password)
        return f"Basic {base64.b64encode(pair).decode()}"

    @property
    def netloc(self) -> str:
        """Host and port, always with the port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def origin(self) -> tuple[str, str, int]:
        """What two addresses of the same server have in common."""
        return self.scheme, self.host.lower(), self.port

    def join(self, location: str) -> Url:
        """Return where a Location header of an answer from here leads to."""
        try:
            return type(self).parse(urljoin(str(self), location.strip()))
        except ValueError as error:
            raise InvalidArgument(f"invalid address: {redacted(location)[:200]!r}") from error

    def with_query(self, query: str) -> Url:
        """Return the address with more in its query."""
        mark = "&" if "?" in self.target else "?"
        return type(self)(self.scheme, self.host, self.port, f"{self.target}{mark}{query}")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def redacted(text: str) -> str:
    """Return an address as others may see it, without passwords; what is no address stays.

    Source: buildkit util/urlutil/redact.go.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        return redacted_text(text)
    if "@" not in parts.netloc or not parts.scheme:
        return text
    name, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{_hidden(name)}@{host}"))


def _hidden(user_info: str) -> str:
    return "xxxxx:xxxxx" if ":" in user_info else "xxxxx"


def redacted_text(text: str) -> str:
    """Return text in which addresses stand without passwords."""
    return _USER_INFO.sub(lambda found: _hidden(found[0]), text)
