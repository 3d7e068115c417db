"""What the plumber asks of a network driver: interfaces of one kind, on the host and inside."""

from __future__ import annotations

from typing import Protocol, TypeVar

from sampan.network.made import Made
from sampan.network.plumber import EndpointSpec
from sampan.network.sandbox import Wired
from sampan.rpc import Fd

S = TypeVar("S", contravariant=True)


class Driver(Protocol[S]):
    """Makes networks of one kind, given by specifications that were checked."""

    def ensure(self, network: S) -> None:
        """Make or repair what a network needs on the host.

        Conflict if a name belongs to somebody else, Unsupported if the kernel lacks it; else
        Internal.
        """

    def remove(self, network: S) -> None:
        """Remove what `ensure` has made, and nothing else."""

    def attach(self, endpoint: EndpointSpec, network: S, sandbox: Fd | None) -> Wired:
        """Put an interface with address and routes into a namespace, by default a fresh one.

        Nothing is left of it if that fails; raises Internal.
        """

    def detach(self, made: Made, sandbox: Fd | None) -> None:
        """Take an interface off its network.

        `sandbox` is the namespace of a container that runs on; without it, the namespace ends.
        """
