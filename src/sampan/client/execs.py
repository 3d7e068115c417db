"""Execs of the API: further processes in a running container."""

from __future__ import annotations

from sampan.client.requests import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.client.connection import Connection
    from sampan.client.requests import Requests


class Execs:
    """`client.execs`; `client.containers.exec` makes them."""

    def __init__(self, client: Requests) -> None:
        self._client = client

    def start(
        self,
        exec_id: str,
        tty: bool = False,
        console_size: tuple[int, int] | None = None,
    ) -> Connection:
        """Start the process and take part in its streams; the caller closes the connection."""
        document: dict[str, object] = {"Detach": False, "Tty": tty}
        if tty and console_size:
            document["ConsoleSize"] = list(console_size)
        return self._client.hijack(f"/exec/{quoted(exec_id)}/start", document=document)

    def start_detached(self, exec_id: str, tty: bool = False) -> None:
        """Start the process in the background."""
        document = {"Detach": True, "Tty": tty}
        self._client.call("POST", f"/exec/{quoted(exec_id)}/start", document=document)

    def resize(self, exec_id: str, height: int, width: int) -> None:
        """Set the size of the terminal, in characters."""
        self._client.call("POST", f"/exec/{quoted(exec_id)}/resize", {"h": height, "w": width})

    def inspect(self, exec_id: str) -> dict[str, Any]:
        document: dict[str, Any] = self._client.call("GET", f"/exec/{quoted(exec_id)}/json")
        return document
