"""What the doctor asks of a host."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Probes(Protocol):
    """What is asked of the host. A probe returns "" for success, else the reason of its failure."""

    def is_root(self) -> bool: ...
    def capabilities(self) -> frozenset[str]:
        """Names of the capabilities that this process may have."""

    def kernel(self) -> str:
        """Release, as `uname -r` prints it."""

    def read(self, path: str) -> str:
        """Content of a file, "" if it is not there."""

    def exists(self, path: str) -> bool: ...
    def namespaces(self, kinds: Sequence[str]) -> dict[str, str]:
        """How each of these kinds went."""

    def system_calls(self, names: Sequence[str]) -> dict[str, str]:
        """How each of these calls went."""

    def pidfd_info(self) -> str: ...
    def library(self, name: str) -> str: ...
    def overlay(self) -> str: ...
    def idmapped_mounts(self) -> str: ...
    def bridge(self) -> str: ...
    def veth(self) -> str: ...
    def nftables(self) -> str: ...
    def controllers(self) -> tuple[str, frozenset[str]]:
        """Layout ("v1", "v2", "hybrid", "none") of the cgroups, and the controllers there."""

    def file_system(self, path: str) -> str:
        """Type of the file system that a path is on."""

    def free_bytes(self, path: str) -> int: ...
    def open_files(self) -> int:
        """Hard limit of open files of one process."""
