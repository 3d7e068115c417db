"""The program `sampand`: configuration, roots, sockets, supervisor. Imports little: see supervisor.

Start order: root → roots with their owners → claims → API sockets → helpers → fork → (in the child)
certificates, all imports, privileges given up, event loop.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import socket
import sys
from typing import NoReturn

from sampan.daemon import certificates, claims, listeners, notify, privileges, roots, stopping
from sampan.daemon.configuration import configuring
from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError, parse_flags, usage
from sampan.daemon.services import Helper, Lasting, execute
from sampan.daemon.supervisor import Supervisor, say

REQUEST_SECONDS = 10.0  # for running requests, before containers are stopped


def entry() -> NoReturn:
    """Be the program."""
    sys.exit(main(sys.argv[1:]))


def main(arguments: list[str]) -> int:
    """Run the daemon until it is told to stop; return the exit code."""
    try:
        flags = parse_flags(arguments)
        if flags.get("help"):
            sys.stdout.write(usage())
            return 0
        if flags.get("version"):
            from sampan.engine.system import ENGINE_VERSION
            from sampan.spec.versions import VERSION

            sys.stdout.write(f"Sampan version {VERSION}, engine {ENGINE_VERSION}\n")
            return 0
        config = configuring.load(arguments)
        if config["validate"]:
            from sampan.daemon.confinement import seccomp_profile

            seccomp_profile(config["seccomp-profile"])
            _check_remap(config)
            sys.stderr.write("configuration OK\n")
            return 0
        if config["doctor"]:
            return _examine_host(config)
        if config["reset"]:
            from sampan.daemon.reset import reset

            return reset(config)
        if os.geteuid() != 0:
            raise UsageError("failed to start daemon: it needs to be started by root")
        return run(config)
    except (UsageError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _check_remap(config: Config, *, make_user: bool = False) -> None:
    if config["userns-remap"]:
        from sampan.daemon import remap

        if make_user:
            remap.make_default_user(config["userns-remap"])
        remap.remapped(config["userns-remap"])


def _examine_host(config: Config) -> int:
    from sampan.engine.doctor.examination import diagnose

    text, code = diagnose(config["data-root"], for_programs=config["format"] == "json")
    sys.stdout.buffer.write(text)
    return code


def run(config: Config) -> int:
    """Open what needs root, then supervise."""
    roots.check_cgroups()
    os.umask(0o022)
    who = privileges.identity(config["user"], config["group"])
    _check_remap(config, make_user=True)
    data_root, run_root = config["data-root"], config["exec-root"]
    roots.prepare(data_root, run_root, who)
    with contextlib.ExitStack() as ours:
        ours.enter_context(stopping.held())  # until the supervisor takes them
        ours.callback(claims.claim_data_root(data_root).release)
        roots.write_pidfile(config["pidfile"])
        ours.callback(roots.remove_pidfile, config["pidfile"])
        ours.callback(claims.claim_run_root(run_root).release)
        ours.callback(claims.claim_network().release)
        certificates.give(config["registry-certs"], run_root, who)
        opened = listeners.open_all(config, who)
        ours.callback(listeners.close_all, opened)
        _raise_file_limit()
        code = _supervise(config, who, opened)
        notify.notify("STOPPING=1")
        _end_idle_spawner(data_root, run_root)
        return code


def _supervise(config: Config, who: privileges.Identity, opened: list[listeners.Listener]) -> int:
    """Keep the daemon and its helpers running until told to stop; return the exit code."""

    def child(control: socket.socket) -> NoReturn:
        gc.disable()  # what it loads now stays; `serve` looks for garbage when all is there
        from sampan.daemon.serve import serve

        serve(config, who, opened, control)

    return Supervisor(
        child,
        _helpers(config, who),
        opened,
        REQUEST_SECONDS + max(0, config["shutdown-timeout"]),
        lambda: notify.notify(f"READY=1\nMAINPID={os.getpid()}"),
        lambda: _read_reload(config, who),
    ).run()


def _end_idle_spawner(data_root: str, run_root: str) -> None:
    """End the spawner if no container needs it; otherwise it waits for the next daemon."""
    pid = execute("sampan.helpers.spawn", ["stop", data_root, run_root])
    os.waitpid(pid, 0)


def _read_reload(config: Config, who: privileges.Identity) -> bytes:
    """Return what the configuration file says now; b"" if it is broken."""
    path = config["config-file"]
    try:
        if os.path.isdir("/sys/kernel/security/apparmor"):
            execute("sampan.daemon.confinement", [])  # the supervisor itself imports little
        certificates.give(config["registry-certs"], config["exec-root"], who)
        return json.dumps(configuring.read_file(path)).encode()
    except (OSError, UsageError) as error:
        say(f"unable to configure the daemon with file {path}: {error}")
        return b""


def _helpers(config: Config, who: privileges.Identity) -> list[Helper]:
    data_root, run_root = config["data-root"], config["exec-root"]
    path = os.path.join(run_root, "spawner.sock")
    network = [os.path.join(run_root, "network")]
    storage = [data_root, config["storage-driver"], run_root]
    backend = config["firewall-backend"] if config["iptables"] else "none"
    network += [f"firewall={backend}"] if backend else []
    network += [] if config["ip6tables"] else ["ipv6=unfiltered"]

    def start_spawner() -> int:
        return execute(
            "sampan.helpers.spawn", ["start", data_root, run_root, str(who.uid), str(who.gid)]
        )

    return [
        Helper("storage", "sampan.helpers.mount", storage),
        Helper("network", "sampan.helpers.network", network),
        Lasting("spawner", path, start_spawner),
    ]


def _raise_file_limit() -> None:
    """Allow as many open files as root may: every attached client and container needs some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:
            say(f"the limit of open files stays at {soft}: {error}")


if __name__ == "__main__":
    entry()
