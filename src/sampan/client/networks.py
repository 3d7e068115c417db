"""Networks of the API."""

from __future__ import annotations

from sampan.client.requests import filters_of, quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from sampan.client.requests import Requests


class Networks:
    """`client.networks`; a network is named by id, unique prefix of an id, or name."""

    def __init__(self, client: Requests) -> None:
        self._client = client

    def list(self, filters: Mapping[str, Iterable[str]] | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.call(
            "GET", "/networks", {"filters": filters_of(filters)}
        )
        return found

    def inspect(self, network: str, verbose: bool = False) -> dict[str, Any]:
        document: dict[str, Any] = self._client.call(
            "GET", f"/networks/{quoted(network)}", {"verbose": verbose}
        )
        return document

    def prune(self, filters: Mapping[str, Iterable[str]] | None = None) -> dict[str, Any]:
        """Remove unused networks; the answer has `NetworksDeleted`."""
        answer: dict[str, Any] = self._client.call(
            "POST", "/networks/prune", {"filters": filters_of(filters)}
        )
        return answer

    def create(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Make a network; the answer has `Id` and `Warning`."""
        answer: dict[str, Any] = self._client.call("POST", "/networks/create", None, document)
        return answer

    def connect(self, network: str, container: str, endpoint: Mapping[str, Any]) -> None:
        """Connect a container, with the API's EndpointSettings."""
        document = {"Container": container, "EndpointConfig": endpoint}
        self._client.call("POST", f"/networks/{quoted(network)}/connect", None, document)

    def disconnect(self, network: str, container: str, force: bool = False) -> None:
        """Take a container off."""
        document = {"Container": container, "Force": force}
        self._client.call("POST", f"/networks/{quoted(network)}/disconnect", None, document)

    def plug(self, container: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Plug an interface into a running container; the answer has `Interface`. Ours."""
        path = f"/containers/{quoted(container)}/plugs"
        answer: dict[str, Any] = self._client.call("POST", path, None, document)
        return answer

    def plugs(self, container: str) -> Sequence[dict[str, Any]]:
        """Return what is plugged into a container. Ours."""
        found: Sequence[dict[str, Any]] = self._client.call(
            "GET", f"/containers/{quoted(container)}/plugs"
        )
        return found

    def unplug(self, container: str, interface: str) -> None:
        """Take back an interface, by its name in the container. Ours."""
        path = f"/containers/{quoted(container)}/plugs/{quoted(interface)}"
        self._client.call("DELETE", path)

    def remove(self, network: str) -> None:
        """Remove a network that no container uses."""
        self._client.call("DELETE", f"/networks/{quoted(network)}")
