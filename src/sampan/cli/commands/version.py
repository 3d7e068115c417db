"""Show the versions of the client and the daemon."""

from __future__ import annotations

from sampan.cli.arguments.flags import flag
from sampan.cli.display.table import INSPECT_FORMAT_HELP, parsed
from sampan.cli.display.tabwriter import aligned
from sampan.cli.invocation import Exit
from sampan.cli.versions import client_version
from sampan.errors import SampanError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.cli.invocation import Invocation

USAGE = ""
OPERANDS = (0, 0)


class Options:
    format: str = flag("f", INSPECT_FORMAT_HELP, default="")


def run(cli: Invocation, options: Options, operands: list[str]) -> int:
    template = parsed(options.format) if options.format else None
    server: dict[str, Any] | None = None
    failure = ""
    try:
        server = _server(cli.client.system.version())
    except SampanError as error:
        failure = str(error)
    client = client_version(cli, server["APIVersion"] if server else "")
    if template:
        try:
            cli.out.line(template.apply({"Client": client, "Server": server}))
        except ValueError as error:
            failure = failure or f"template parsing error: {error}"
    else:
        cli.out.write(_text(client, server))
    if failure:
        raise Exit(1, failure)
    return 0


def _server(answer: dict[str, Any]) -> dict[str, Any]:
    components = answer.get("Components") or []
    if not any(component["Name"] == "Engine" for component in components):
        details = {name: answer.get(name, "") for name in ("ApiVersion", "MinAPIVersion")}
        details |= {name: answer.get(name, "") for name in ("Os", "Arch")}
        engine = {"Name": "Engine", "Version": answer["Version"], "Details": details}
        components = [*components, engine]
    for component in components:
        details = component.get("Details") or {}
        if "BuildTime" in details:
            details["BuildTime"] = _date(details["BuildTime"])
    engine = next(item for item in components if item["Name"] == "Engine")
    details = engine.get("Details") or {}
    return {
        "Platform": answer.get("Platform") or {"Name": ""},
        "Version": answer["Version"],
        "APIVersion": answer["ApiVersion"],
        "MinAPIVersion": answer.get("MinAPIVersion", ""),
        "Os": answer["Os"],
        "Arch": answer["Arch"],
        "Components": components,
        **{
            name: details.get(name, "")
            for name in ("GitCommit", "GoVersion", "KernelVersion", "BuildTime")
        },
        "Experimental": details.get("Experimental") == "true",
    }


def _date(text: str) -> str:
    """Format an RFC 3339 time as Go's ANSIC, in its own zone; leave other texts alone."""
    from datetime import datetime

    try:
        moment = datetime.fromisoformat(f"{text.partition('.')[0].removesuffix('Z')[:19]}")
    except ValueError:
        return text
    return f"{moment:%a %b} {moment.day:2d} {moment:%H:%M:%S %Y}"


def _text(client: dict[str, Any], server: dict[str, Any] | None) -> str:
    api, newest = client["APIVersion"], client["DefaultAPIVersion"]
    lines = [
        f"Client: {client['Platform']['Name']}",
        f" Version:\t{client['Version']}",
        f" API version:\t{api}" + (f" (downgraded from {newest})" if api != newest else ""),
        f" Python version:\t{client['PythonVersion']}",
        f" OS/Arch:\t{client['Os']}/{client['Arch']}",
        f" Context:\t{client['Context']}",
    ]
    if server:
        name = server["Platform"].get("Name", "")
        lines += ["", f"Server: {name}".rstrip()]
        for component in server["Components"]:
            lines += _component(component)
    return aligned("\n".join(lines) + "\n", minimum=20, padding=1)


def _component(component: dict[str, Any]) -> list[str]:
    details = component.get("Details") or {}
    lines = [f" {component['Name']}:", f"  Version:\t{component['Version']}"]
    if component["Name"] != "Engine":
        return lines + [f"  {name}:\t{details[name]}" for name in sorted(details)]
    lowest = details.get("MinAPIVersion", "")
    rows = {
        "API version": f"{details.get('ApiVersion', '')} (minimum version {lowest})",
        "Go version": details.get("GoVersion", ""),
        "Git commit": details.get("GitCommit", ""),
        "Built": details.get("BuildTime", ""),
        "OS/Arch": f"{details.get('Os', '')}/{details.get('Arch', '')}",
        "Experimental": details.get("Experimental", ""),
    }
    return lines + [f"  {name}:\t{value}" for name, value in rows.items()]
