"""All commands of `sampan`: their names, their groups, and the modules that they are."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

PROGRAM = "sampan"
COMMON = (
    *("run", "exec", "ps", "build", "pull", "push", "images", "login", "logout", "search"),
    *("version", "info"),
)
# A command's name, and the module below sampan.cli.commands that is the command.
COMMANDS = {
    name: name
    for name in (
        *("attach", "build", "commit", "cp", "create", "diff", "doctor", "events", "exec"),
        "export",
        *("history", "images", "info", "inspect", "kill", "load", "login", "logout", "logs"),
        *("pause", "port", "ps", "pull", "push", "rename", "restart", "rm", "rmi", "run", "save"),
        *("search", "start", "stats", "stop", "tag", "top", "unpause", "update", "version"),
        "wait",
    )
} | {"import": "import_"}
_IMAGE_VERBS = ("build", "history", "import", "load", "pull", "push", "save", "tag")
GROUPS: dict[str, tuple[str, dict[str, str]]] = {
    "builder": (
        "Work with builds",
        {"build": "build", "du": "builder.du", "prune": "builder.prune"},
    ),
    "container": (
        "Work with containers",
        {
            name: COMMANDS[name]
            for name in (
                *("attach", "commit", "cp", "create", "diff", "exec", "export", "kill", "logs"),
                *("pause", "port", "rename", "restart", "rm", "run", "start", "stats", "stop"),
                *("top", "unpause", "update", "wait"),
            )
        }
        | {"inspect": "container.inspect", "ls": "ps", "prune": "container.prune"},
    ),
    "image": (
        "Work with images",
        {name: COMMANDS[name] for name in _IMAGE_VERBS}
        | {
            "inspect": "image.inspect",
            "ls": "images",
            "prune": "image.prune",
            "rm": "rmi",
        },
    ),
    "manifest": (
        "Work with image manifests and lists of them (experimental)",
        {name: f"manifest.{name}" for name in ("annotate", "create", "inspect", "push", "rm")},
    ),
    "network": (
        "Work with networks",
        {
            name: f"network.{name}"
            for name in (
                *("connect", "create", "disconnect", "inspect", "ls", "plug", "plugs", "prune"),
                *("rm", "unplug"),
            )
        },
    ),
    "registry": (
        "Serve a registry of images",
        {
            "audit": "registry.audit",
            "garbage-collect": "registry.garbage_collect",
            "group": "registry.group",
            "key": "registry.key",
            "quotas": "registry.quotas",
            "retention": "registry.retention",
            "rule": "registry.rule",
            "scrub": "registry.scrub",
            "serve": "registry.serve",
            "session": "registry.session",
            "user": "registry.user",
            "verify": "registry.verify",
        },
    ),
    "system": (
        "Look after the daemon",
        {
            "check": "system.check",
            "df": "system.df",
            "doctor": "doctor",
            "events": "events",
            "info": "info",
            "prune": "system.prune",
            "reset": "system.reset",
        },
    ),
    "volume": (
        "Work with volumes",
        {name: f"volume.{name}" for name in ("create", "inspect", "ls", "prune", "rm", "update")},
    ),
}
# Names that help does not list.
OTHER_NAMES = {
    "container": {"list": "ls", "ps": "ls", "remove": "rm"},
    "image": {"list": "ls", "remove": "rm"},
    "network": {"list": "ls", "remove": "rm"},
    "volume": {"list": "ls", "remove": "rm"},
}


def load(name: str) -> ModuleType:
    """Import the module of a command."""
    module = f"sampan.cli.commands.{name}"
    __import__(module)
    return sys.modules[module]
