"""What confines containers by default: read and loaded while the daemon is still root."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

from sampan.daemon.configuration.config import Config
from sampan.daemon.configuration.flags import UsageError
from sampan.engine.oci.seccomp_profiles import BUILTIN, UNCONFINED, load_profile
from sampan.engine.oci.security import Confinement
from sampan.errors import InvalidArgument
from sampan.runtime.confinement import apparmor_profile

log = logging.getLogger(__name__)
PARSER = "/usr/sbin/apparmor_parser"
PARSER_SECONDS = 30
PROFILE_BYTES = 4 << 20


def confinement(config: Config) -> Confinement:
    """Return the defaults of the configuration; loads the AppArmor profile where there is AppArmor.

    Raises UsageError for a seccomp profile that cannot be used.
    """
    return Confinement(
        seccomp=seccomp_profile(config["seccomp-profile"]),
        no_new_privileges=config["no-new-privileges"],
        ipc_mode=config["default-ipc-mode"],
        cgroupns_mode=config["default-cgroupns-mode"],
        apparmor=load_apparmor(Path("/")),
    )


def seccomp_profile(value: str) -> str:
    """Return `--seccomp-profile` as the engine takes it: a file is read."""
    if value in ("", BUILTIN):
        return ""
    if value == UNCONFINED:
        return UNCONFINED
    try:
        with open(value, encoding="utf-8") as file:
            text = file.read(PROFILE_BYTES + 1)
        if len(text) > PROFILE_BYTES:
            raise UsageError(f"seccomp profile ({value}) exceeds {PROFILE_BYTES} bytes")
        load_profile(text, frozenset())
    except UnicodeDecodeError as error:
        raise UsageError(f"seccomp profile ({value}): {error}") from error
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"opening seccomp profile ({value}) failed: open {value}: {reason}"
        ) from error
    except InvalidArgument as error:
        raise UsageError(f"seccomp profile ({value}): {error}") from error
    return text


def load_apparmor(host: Path) -> str:
    """Load our profile into the kernel; return its name, "" where that is not possible.

    Without it containers go on with all other defences, and a warning says so.
    """
    if not _is_on(host):
        return ""
    try:
        done = subprocess.run(
            [PARSER, "--skip-cache", "--replace"],
            input=text_for(host).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PARSER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("the AppArmor profile %s is not loaded: %s", apparmor_profile.NAME, error)
        return ""
    if done.returncode:
        output = done.stdout.decode(errors="replace").strip()
        log.warning("the AppArmor profile %s is not loaded: %s", apparmor_profile.NAME, output)
        return ""
    return apparmor_profile.NAME


def text_for(host: Path) -> str:
    """Return the profile for the AppArmor files of a host."""
    files = host / "etc/apparmor.d"
    return apparmor_profile.profile(
        daemon=_own_profile(host),
        abi=(files / "abi/3.0").exists(),
        tunables=(files / "tunables/global").exists(),
        base=(files / "abstractions/base").exists(),
    )


def _is_on(host: Path) -> bool:
    try:
        switch = (host / "sys/module/apparmor/parameters/enabled").read_text("ascii")
    except OSError:
        return False
    return switch.startswith("Y") and os.path.isdir(host / "sys/kernel/security/apparmor")


def _own_profile(host: Path) -> str:
    """Return the profile that this process is in: who stops containers has it, too."""
    for name in ("apparmor/current", "current"):
        try:
            text = (host / "proc/self/attr" / name).read_text("utf-8", "replace")
        except OSError:
            continue
        label = text.strip("\0\n").rpartition(" (")[0] or text.strip("\0\n")
        if label and '"' not in label:
            return label
    return "unconfined"


if __name__ == "__main__":
    load_apparmor(Path("/"))
