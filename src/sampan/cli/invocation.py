"""What a command gets to work with: the client, the user's settings, the outputs."""

from __future__ import annotations

import os

from sampan.cli.display.output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.client.api import Client
    from sampan.client.endpoint import TLS


class Exit(Exception):
    """Ends a command with a status, after printing `message` to standard error if there is one."""

    def __init__(self, status: int, message: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Invocation:
    """One call of `sampan`."""

    def __init__(self, path: str = "") -> None:
        self.path = path  # the command as it was called: "run", "container ls"
        self.host = ""
        self.context = ""
        self.tls: TLS | None = None
        self.debug = False
        self.folder = ""
        self.out = Output(1)
        self.err = Output(2)
        self._client: Client | None = None
        self._settings: dict[str, Any] | None = None
        self._unreadable = ""  # why config.json must not be written

    @property
    def client(self) -> Client:
        """The daemon's client; nothing is connected before the first call."""
        if self._client is None:
            self._client = self.new_client()
        return self._client

    def new_client(self) -> Client:
        """Return another client of the same daemon, for another thread."""
        from sampan.client.api import Client
        from sampan.client.endpoint import resolve

        host = "" if self.context else self.host
        named = host or self.context or os.environ.get("DOCKER_HOST")
        current = "" if named else self.setting("currentContext")
        endpoint = resolve(os.environ, host, self.context, current, self.tls)
        headers = self.settings.get("HttpHeaders") if named is None else None
        lines = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        version = os.environ.get("DOCKER_API_VERSION", "").removeprefix("v")
        return Client(endpoint, version, lines)

    @property
    def settings(self) -> dict[str, Any]:
        """The user's config.json; empty if there is none."""
        if self._settings is None:
            self._settings = self._read_settings()
        return self._settings

    def setting(self, name: str) -> str:
        """Return a setting that is text; empty if it is not set."""
        value = self.settings.get(name)
        return value if isinstance(value, str) else ""

    def settings_path(self) -> str:
        """Return the path of the user's config.json."""
        from sampan.client.endpoint import config_folder

        return os.path.join(self.folder or config_folder(os.environ), "config.json")

    def change_settings(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change config.json as it is now: since the start somebody else may have changed it.

        Raises Exit if it cannot be read: then what is in it would be lost.
        """
        settings = self._settings = self._read_settings()
        if self._unreadable:
            raise Exit(1, f"refusing to overwrite {self.settings_path()}: {self._unreadable}")
        from sampan.cli.settings_file import write

        change(settings)
        write(self.settings_path(), settings)

    def _read_settings(self) -> dict[str, Any]:
        path = self.settings_path()
        try:
            with open(path, "rb") as file:
                content = file.read()
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._unreadable = (error.strerror or str(error)).lower()
            return {}
        from sampan.client import documents

        try:
            document = documents.decode(content) if content.strip() else {}
            if not isinstance(document, dict):
                raise ValueError("no JSON object")
        except ValueError as error:
            self._unreadable = str(error)
            self.err.line(f"WARNING: Error parsing config file ({path}): {error}")
            return {}
        return document
