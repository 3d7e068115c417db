"""What all `inspect` commands do: documents as indented JSON, or through a template."""

from __future__ import annotations

from sampan.cli.display import harmless
from sampan.cli.display.output import Styled
from sampan.cli.invocation import Exit
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from sampan.cli.invocation import Invocation

# Fields that docker's own types have although the daemon leaves them out of its JSON.
ABSENT: dict[str, dict[str, Any]] = {
    "State": {"Health": None},
    "Config": {"Healthcheck": None, "Shell": None, "StopTimeout": None, "StopSignal": ""},
    "HostConfig": {
        "Annotations": None,
        "Init": None,
        "Mounts": None,
        "StorageOpt": None,
        "Sysctls": None,
        "Tmpfs": None,
    },
}
# Fields whose null Go prints as an empty list or map.
LISTS = frozenset(
    (
        *("Binds", "CapAdd", "CapDrop", "Cmd", "Devices", "DeviceRequests", "Dns", "DnsOptions"),
        *("DnsSearch", "Entrypoint", "Env", "ExecIDs", "ExtraHosts", "GroupAdd", "Links"),
        *("MaskedPaths", "OnBuild", "ReadonlyPaths", "RepoDigests", "RepoTags", "SecurityOpt"),
        *("Shell", "Ulimits", "VolumesFrom", "Mounts", "Aliases"),
    )
)
MAPS = frozenset(
    (
        *("Annotations", "DriverOpts", "ExposedPorts", "Labels", "PortBindings", "Ports"),
        *("StorageOpt", "Sysctls", "Tmpfs", "Volumes", "Data"),
    )
)


def inspect(
    cli: Invocation, names: list[str], format: str, find: Callable[[str], dict[str, Any]]
) -> int:
    """Print every document; those not found are told of at the end, with status 1."""
    from sampan.cli.display.table import parsed

    template = parsed(format) if format and format != "json" else None
    documents: list[dict[str, Any]] = []
    errors: list[str] = []
    texts: list[str] = []
    for name in names:
        try:
            document = find(name)
            if template:
                texts.append(template.apply(_with_absent(document)) + "\n")
            documents.append(document)
        except SampanError as error:
            errors.append(str(error))
        except ValueError as error:
            errors.append(f"template parsing error: {error}")
    if template:
        text = "".join(texts) or "\n"
        cli.out.write(Styled(text) if "\x1b" in format else text)
    else:
        import json

        indented = format != "json"
        separators = (",", ": ") if indented else (",", ":")
        text = json.dumps(
            documents,
            indent=4 if indented and documents else None,
            separators=separators,
            ensure_ascii=False,
        )
        cli.out.line(harmless.json_text(text))
    if errors:
        raise Exit(1, "\n".join(errors))
    return 0


def _with_absent(document: dict[str, Any]) -> dict[str, Any]:
    from sampan.cli.template.functions import Nil

    def typed(value: Any, name: str = "") -> Any:
        if value is None:
            return Nil("[]") if name in LISTS else Nil("map[]") if name in MAPS else None
        if isinstance(value, dict):
            fields = {**ABSENT.get(name, {}), **value}
            return {key: typed(item, key) for key, item in fields.items()}
        return value

    filled: dict[str, Any] = typed(document)
    return filled
