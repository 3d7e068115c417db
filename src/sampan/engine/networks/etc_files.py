"""The files that every container gets under /etc: hosts, hostname, resolv.conf.

Pure functions from texts to bytes. Source of the rules: moby libnetwork/etchosts,
libnetwork/internal/resolvconf (the transformation for the default bridge).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from sampan.errors import InvalidArgument
from sampan.spec.addresses import is_address

#: What a host that asks only itself gets instead, as in Docker.
FALLBACK: Final = ("8.8.8.8", "8.8.4.4")
#: Where systemd-resolved tells whom it asks.
RESOLVED: Final = Path("/run/systemd/resolve/resolv.conf")
HOST_GATEWAY: Final = "host-gateway"

RESOLVER: Final = "127.0.0.11"  # in containers on user-defined networks

_LOOPBACK: Final = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines that go from a file and lines that come into it."""

    name: str
    remove: list[str]
    add: list[str]


@dataclass(slots=True)
class ResolvConf:
    """A resolv.conf, taken apart."""

    nameservers: list[str] = field(default_factory=list)
    search: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> ResolvConf:
        """Read a resolv.conf; nameservers that are no addresses are left out."""
        found = cls()
        for line in text.splitlines():
            words = line.split()
            if not words or line[0] in "#;":
                continue
            match words[0]:
                case "nameserver" if len(words) > 1 and is_address(words[1]):
                    found.nameservers.append(words[1])
                case "search" | "domain":
                    found.search = words[1:]
                case "options":
                    found.options += words[1:]
                case "nameserver":
                    pass
                case _:
                    found.other.append(line.strip())
        return found

    def format(self) -> bytes:
        """Return the text."""
        lines = [f"nameserver {server}" for server in self.nameservers]
        lines += ["search " + " ".join(self.search)] if self.search else []
        lines += ["options " + " ".join(self.options)] if self.options else []
        return ("\n".join([*lines, *self.other]) + "\n").encode()


def resolv_conf(
    host: str,
    *,
    dns: Sequence[str] = (),
    search: Sequence[str] = (),
    options: Sequence[str] = (),
    is_host_network: bool = False,
    is_internal: bool = False,
    has_ipv6: bool = False,
) -> bytes:
    """Return a container's resolv.conf, made of the host's and of what the user wants.

    Nameservers on the host's loopback are unreachable from the container, and without `has_ipv6`
    those of IPv6: they are left out. `search=["."]` means no search list. With `is_internal` the
    only server is our resolver, which asks the others; names of one label go to it as well
    (ndots:0).
    """
    made = ResolvConf.parse(host)
    if search:
        made.search = [] if list(search) == ["."] else list(search)
    if options:
        made.options = list(options)
    if is_internal:
        made.nameservers = [RESOLVER]
        if not any(option.startswith("ndots:") for option in made.options):
            made.options = [*made.options, "ndots:0"]
    elif dns:
        made.nameservers = [str(ip_address(server)) for server in dns]
    elif not is_host_network:
        made.nameservers = [
            server for server in made.nameservers if _is_reachable(server, has_ipv6)
        ]
        made.nameservers = made.nameservers or list(FALLBACK)
    return made.format()


def read_host_resolv_conf(path: Path) -> str:
    """Return the host's resolv.conf; behind systemd-resolved's stub, the servers it asks."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    if ResolvConf.parse(text).nameservers == ["127.0.0.53"]:
        try:
            return RESOLVED.read_text(errors="replace")
        except OSError:
            pass
    return text


def hosts(
    *,
    extra: Sequence[tuple[str, str]] = (),
    own: Sequence[str] = (),
    hostname: str = "",
    domainname: str = "",
) -> bytes:
    """Return a container's /etc/hosts: loopback, `extra` (name, address), its own addresses."""
    lines = [*_LOOPBACK, *((address, name) for name, address in extra)]
    if hostname:
        names = f"{hostname}.{domainname} {hostname}" if domainname else hostname
        host, dot, _ = hostname.partition(".")
        if dot and not domainname:
            names = f"{hostname} {host}"
        lines += [(address, names) for address in own]
    return "".join(f"{address}\t{names}\n" for address, names in lines).encode()


def extra_host(text: str, gateway: str = "") -> tuple[str, str]:
    """Return name and address of "name:address", where the address may be `host-gateway`.

    Raises InvalidArgument in Docker's words.
    """
    name, colon, address = text.partition(":")
    if not colon or not name:
        raise InvalidArgument(f"bad format for add-host: {text!r}")
    if address == HOST_GATEWAY:
        if not gateway:
            raise InvalidArgument("unable to derive the IP value for host-gateway")
        return name, gateway
    if not is_address(address.strip("[]")):
        raise InvalidArgument(f"invalid IP address in add-host: {address!r}")
    return name, address.strip("[]")


def edits(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Edit]:
    """Return the changes of lines between two states of a container's files."""
    found = []
    for name, content in after.items():
        old, new = (text.decode().splitlines() for text in (before[name], content))
        gone = [line for line in old if line not in new]
        edit = Edit(name, gone, [line for line in new if line not in old])
        if edit.remove or edit.add:
            found.append(edit)
    return found


def _is_reachable(server: str, has_ipv6: bool) -> bool:
    address = ip_address(server)
    return not address.is_loopback and (address.version == 4 or has_ipv6)
