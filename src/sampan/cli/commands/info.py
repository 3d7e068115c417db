"""Show what the daemon is, has and lacks."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.display.table import INSPECT_FORMAT_HELP, parsed
from sampan.cli.display.units import binary_size
from sampan.cli.invocation import Exit
from sampan.cli.versions import client_version
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = ""
ALIASES = "system info, info"
OPERANDS = (0, 0)


class Options:
    format: str = flag("f", INSPECT_FORMAT_HELP, default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    template = parsed(options.format) if options.format else None
    client = {"Debug": cli.debug, **client_version(cli), "Plugins": [], "Warnings": None}
    failure = ""
    info: dict[str, Any] | None = None
    try:
        info = cli.client.system.info()
    except SampanError as error:
        failure = str(error)
    if template:
        try:
            cli.out.line(template.apply({**(info or {}), "ClientInfo": client}))
        except ValueError as error:
            failure = failure or f"template parsing error: {error}"
    else:
        _print_client(cli, client)
        if info:
            for line in _server_lines(info, _user(cli, info)):
                cli.out.line(line)
            cli.out.line()
            for warning in info.get("Warnings") or []:
                cli.err.line(warning)
    if failure:
        raise Exit(1, failure)
    return 0


def _print_client(cli: Invocation, client: dict[str, Any]) -> None:
    cli.out.line(f"Client: {client['Platform']['Name']}")
    cli.out.line(f" Version:    {client['Version']}")
    cli.out.line(f" Context:    {client['Context']}")
    cli.out.line(f" Debug Mode: {_word(client['Debug'])}")
    cli.out.line("\nServer:")


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _present(info: dict[str, Any], **fields: str) -> list[str]:
    """Return a line for each field that is not empty: field=label."""
    return [f" {label}: {info[name]}" for name, label in fields.items() if info.get(name)]


def _user(cli: Invocation, info: dict[str, Any]) -> str:
    """Return the user's name at the default registry, if config.json has it."""
    server = info.get("IndexServerAddress")
    if not server or not cli.settings.get("auths"):
        return ""
    from sampan.cli.logins.credentials import stored_name

    return stored_name(cli, str(server))


def _server_lines(info: dict[str, Any], user: str) -> list[str]:
    lines = [f" Containers: {info['Containers']}"]
    lines += [f"  {kind}: {info[f'Containers{kind}']}" for kind in ("Running", "Paused", "Stopped")]
    lines.append(f" Images: {info['Images']}")
    lines += _present(info, ServerVersion="Server Version", Driver="Storage Driver")
    lines += [f"  {pair[0]}: {pair[1]}" for pair in info.get("DriverStatus") or []]
    lines += _present(
        info,
        LoggingDriver="Logging Driver",
        CgroupDriver="Cgroup Driver",
        CgroupVersion="Cgroup Version",
    )
    plugins = info.get("Plugins") or {}
    lines.append(" Plugins:")
    for kind in ("Volume", "Network", "Authorization", "Log"):
        names = plugins.get(kind) or []
        if names or kind != "Authorization":
            lines.append(f"  {kind}: {' '.join(names)}")
    lines += _heading(" CDI spec directories:", info.get("CDISpecDirs"))
    swarm = (info.get("Swarm") or {}).get("LocalNodeState") or "inactive"
    lines.append(f" Swarm: {swarm}")
    runtimes = info.get("Runtimes") or {}
    if runtimes:
        lines.append(f" Runtimes: {' '.join(runtimes)}")
        lines.append(f" Default Runtime: {info.get('DefaultRuntime', '')}")
    return lines + _binary_lines(info) + _host_lines(info) + _daemon_lines(info, user)


def _heading(heading: str, items: list[str] | None) -> list[str]:
    return [heading, *(f"  {item}" for item in items)] if items else []


def _binary_lines(info: dict[str, Any]) -> list[str]:
    if info.get("OSType") != "linux":
        return []
    lines = [f" Init Binary: {info.get('InitBinary', '')}"]
    for label, name in (
        ("containerd", "ContainerdCommit"),
        ("runc", "RuncCommit"),
        ("init", "InitCommit"),
    ):
        lines.append(f" {label} version: {(info.get(name) or {}).get('ID', '')}")
    options = [
        dict(pair.partition("=")[::2] for pair in text.split(","))
        if "=" in text
        else {"name": text}
        for text in info.get("SecurityOptions") or []
    ]
    if options:
        lines.append(" Security Options:")
    for option in options:
        lines.append(f"  {option.get('name', '')}")
        if "profile" in option:
            lines.append(f"   Profile: {option['profile']}")
    return lines


def _host_lines(info: dict[str, Any]) -> list[str]:
    lines = _present(
        info,
        KernelVersion="Kernel Version",
        OperatingSystem="Operating System",
        OSType="OSType",
        Architecture="Architecture",
    )
    lines.append(f" CPUs: {info['NCPU']}")
    lines.append(f" Total Memory: {binary_size(info['MemTotal'])}")
    lines += _present(info, Name="Name", ID="ID")
    lines.append(f" Docker Root Dir: {info.get('DockerRootDir', '')}")
    return lines


def _daemon_lines(info: dict[str, Any], user: str) -> list[str]:
    lines = [f" Debug Mode: {_word(info.get('Debug', False))}"]
    if info.get("Debug"):
        lines += [
            f"  File Descriptors: {info.get('NFd', 0)}",
            f"  Goroutines: {info.get('NGoroutines', 0)}",
            f"  System Time: {info.get('SystemTime', '')}",
            f"  EventsListeners: {info.get('NEventsListener', 0)}",
        ]
    lines += _present(info, HttpProxy="HTTP Proxy", HttpsProxy="HTTPS Proxy", NoProxy="No Proxy")
    lines += [f" Username: {user}"] if user else []
    lines += _heading(" Labels:", info.get("Labels"))
    lines.append(f" Experimental: {_word(info.get('ExperimentalBuild', False))}")
    registries = info.get("RegistryConfig") or {}
    insecure = [
        name
        for name, index in (registries.get("IndexConfigs") or {}).items()
        if not index.get("Secure")
    ]
    lines += _heading(
        " Insecure Registries:", insecure + (registries.get("InsecureRegistryCIDRs") or [])
    )
    lines += _heading(" Registry Mirrors:", registries.get("Mirrors"))
    lines.append(f" Live Restore Enabled: {_word(info.get('LiveRestoreEnabled', False))}")
    lines += _present(info, ProductLicense="Product License")
    pools = info.get("DefaultAddressPools") or []
    if pools:
        lines.append(" Default Address Pools:")
        lines += [f"   Base: {pool['Base']}, Size: {pool['Size']}" for pool in pools]
    backend = info.get("FirewallBackend")
    if backend:
        lines.append(f" Firewall Backend: {backend['Driver']}")
        lines += [f"  {pair[0]}: {pair[1]}" for pair in backend.get("Info") or []]
    return lines
