"""`sampan-runtime`: the command line of OCI runtimes, as runc and crun have it.

Commands are loaded by name, so that `state` does not pay for what `create` needs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence

from sampan import errors
from sampan.ocirun.context import DEFAULT_ROOT, Context
from sampan.ocirun.flags import Arguments, Flag, flag, parse, usage
from sampan.spec.versions import OCI_VERSION, VERSION

GLOBAL = (
    flag("--root", "directory of the state of containers, on a tmpfs", "DIR"),
    flag("--log", "file for the log (default: stderr)", "FILE"),
    flag("--log-format", "text (default) or json", "FORMAT"),
    flag("--debug", "log warnings to stderr too"),
    flag("--systemd-cgroup", "cgroupsPath has the form slice:prefix:name"),
    flag("--cgroup-manager", "cgroupfs, systemd or disabled, as crun has it", "MANAGER"),
    flag("--rootless", "accepted; what is missing is degraded to warnings anyway", "VALUE"),
    flag("--criu", "accepted and ignored", "PATH"),
    flag("--help -h -?", "show help"),
    flag("--version -v -V", "show the version"),
)

#: Command → module below `sampan.ocirun`, one line of help.
COMMANDS = {
    "create": ("create", "create a container"),
    "delete": ("delete", "delete what a container holds"),
    "events": ("events", "print statistics and out-of-memory events"),
    "exec": ("execute", "execute one more process in a container"),
    "features": ("features", "print what this runtime can do, as JSON"),
    "kill": ("kill", "send a signal to the init of a container (default: SIGTERM)"),
    "list": ("listing", "list the containers below the root directory"),
    "pause": ("pause", "stop all processes of a container"),
    "ps": ("processes", "list the processes of a container"),
    "resume": ("resume", "let the processes of a paused container run again"),
    "run": ("run", "create and start a container"),
    "spec": ("specification", "write a config.json to begin with"),
    "start": ("start", "execute the program of a created container"),
    "state": ("state", "print the state of a container, as JSON"),
    "update": ("update", "change the limits of a container"),
}


#: They fork what becomes a process of a container, so no container may write their interpreter.
SEALED = frozenset(("create", "exec", "run"))


def entry() -> None:
    """Run the program; ends the process."""
    arguments = sys.argv[1:]
    if command_of(arguments) in SEALED:
        _seal()
    status = main(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        status = 1
    # What Python does at its end (collecting, finalizing) takes milliseconds and changes nothing.
    sys.stderr.flush()
    os._exit(status)


def main(arguments: Sequence[str]) -> int:
    """Run one command; return the exit status."""
    context = Context()
    try:
        given = parse(GLOBAL, arguments, interspersed=False)
        context = _context(given)
        context.check()
        if given.has("version"):
            _print(version())
            return 0
        if given.has("help") or not given.operands or given.operands[0] in ("help", "h"):
            _print(_help())
            return 0
        name, *rest = given.operands
        if name not in COMMANDS:
            raise errors.InvalidArgument(f"No help topic for '{name}'")
        return _run(context, name, rest)
    except (errors.SampanError, OSError) as error:
        context.fail(_sentence(error))
        return 255 if command_of(arguments) == "exec" else 1  # as runc


def command_of(arguments: Sequence[str]) -> str:
    """Return the command of a command line; "" if there is none, or the flags before it are bad."""
    try:
        return next(iter(parse(GLOBAL, arguments, interspersed=False).operands), "")
    except errors.InvalidArgument:
        return ""


def _seal() -> None:
    """Go on in an interpreter that cannot be overwritten through /proc/self/exe (CVE-2019-5736)."""
    from sampan.runtime.confinement.seal import seal

    try:
        seal()
    except errors.Unsupported as error:
        sys.stderr.write(f"{error}\n")
        os._exit(1)


def _context(given: Arguments) -> Context:
    root = os.path.abspath(given.get("root", DEFAULT_ROOT))
    systemd = given.has("systemd-cgroup") or given.get("cgroup-manager") == "systemd"
    return Context(
        root=root,
        log=given.get("log"),
        log_format=given.get("log-format", "text"),
        debug=given.has("debug"),
        systemd_cgroup=systemd,
    )


def _run(context: Context, name: str, arguments: list[str]) -> int:
    module = importlib.import_module(f"sampan.ocirun.{COMMANDS[name][0]}")
    flags: tuple[Flag, ...] = (*module.FLAGS, flag("--help -h -?", "show help"))
    given = parse(flags, arguments, interspersed=name != "exec")
    if given.has("help"):
        _print(f"sampan-runtime {name} - {COMMANDS[name][1]}\n\n")
        _print(f"Usage: sampan-runtime {name} [options] {module.USAGE}\n\n{usage(flags)}")
        return 0
    low, high = module.OPERANDS
    if not low <= len(given.operands) <= (high if high is not None else len(given.operands)):
        wanted = f"exactly {low}" if low == high else f"at least {low}"
        raise errors.InvalidArgument(f'"{name}" requires {wanted} argument(s): {module.USAGE}')
    run: Callable[[Context, Arguments], int] = module.run
    return run(context, given)


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror.lower()}{where}"
    return str(error)


def version() -> str:
    """Return what `--version` prints; podman shows it in `podman info`."""
    return f"sampan-runtime version {VERSION}\nspec: {OCI_VERSION}\n"


def _help() -> str:
    commands = "".join(f"   {name:<9} {text}\n" for name, (_, text) in COMMANDS.items())
    head = "sampan-runtime - run containers from OCI bundles\n\n"
    return (
        f"{head}Usage: sampan-runtime [global options] command [options] [arguments]\n\n"
        f"Commands:\n{commands}\nGlobal options:\n{usage(GLOBAL)}"
    )


def _print(text: str) -> None:
    sys.stdout.write(text)
