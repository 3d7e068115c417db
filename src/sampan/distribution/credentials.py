"""Who the user is to a registry."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and a password, or tokens in their place; empty strings where there is none."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """A refresh token: it buys access tokens from the registry's token server."""
    registry_token: str = field(default="", repr=False)
    """An access token, sent to the registry as it is."""

    @property
    def is_anonymous(self) -> bool:
        """There is nothing to send."""
        return not (self.username or self.identity_token or self.registry_token)


ANONYMOUS = Credentials()
