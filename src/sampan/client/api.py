"""The Docker API as Python calls: one `Client` per daemon, one attribute per noun.

    with Client.from_environment() as client:
        for container in client.containers.list(all=True):
            print(container["Id"])

Synchronous; answers are the JSON documents of the API as Python values. Errors are those of
`sampan.errors`, with the daemon's sentence behind "Error response from daemon: ".
"""

from __future__ import annotations

import os

from sampan.client.endpoint import resolve
from sampan.client.requests import Requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from sampan.client.containers import Containers
    from sampan.client.distribution import Distribution
    from sampan.client.execs import Execs
    from sampan.client.images import Images
    from sampan.client.networks import Networks
    from sampan.client.system import System
    from sampan.client.volumes import Volumes


class Client(Requests):
    """Calls to one daemon. Not for use from several threads at once; open one client per thread."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Client:
        """Find the daemon as the command line does: DOCKER_HOST, DOCKER_CONTEXT, the default."""
        environ = os.environ if environ is None else environ
        return cls(resolve(environ), environ.get("DOCKER_API_VERSION", "").removeprefix("v"))

    @property
    def containers(self) -> Containers:
        from sampan.client.containers import Containers

        return Containers(self)

    @property
    def distribution(self) -> Distribution:
        from sampan.client.distribution import Distribution

        return Distribution(self)

    @property
    def execs(self) -> Execs:
        from sampan.client.execs import Execs

        return Execs(self)

    @property
    def images(self) -> Images:
        from sampan.client.images import Images

        return Images(self)

    @property
    def networks(self) -> Networks:
        from sampan.client.networks import Networks

        return Networks(self)

    @property
    def volumes(self) -> Volumes:
        from sampan.client.volumes import Volumes

        return Volumes(self)

    @property
    def system(self) -> System:
        from sampan.client.system import System

        return System(self)
