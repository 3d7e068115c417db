"""The AppArmor profile: what it forbids, asked of its own patterns and of AppArmor's parser."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sampan.runtime.confinement.apparmor_profile import NAME, profile

PARSER = Path("/usr/sbin/apparmor_parser")


def text(**options: bool) -> str:
    return profile(**{"abi": False, "tunables": False, "base": False, **options})  # type: ignore[arg-type]


def denied(path: str, access: str) -> bool:
    """Apply the rules that deny files, as apparmor.d(5) explains their patterns."""
    for line in text().splitlines():
        found = re.fullmatch(r" *deny (\S+) ([rwklx]+),", line)
        if not found or access not in found[2]:
            continue
        pattern = found[1].replace("@{PROC}", "/proc").replace("**", "\0")
        parts = re.split(r"(\[[^]]*\]|\0|\*|\?)", pattern)
        kinds = {"\0": ".*", "*": "[^/]*", "?": "[^/]"}
        whole = "".join(kinds.get(it, it if it[:1] == "[" else re.escape(it)) for it in parts)
        if re.fullmatch(whole, path):
            return True
    return False


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sysrq-trigger",
        "/proc/kcore",
        "/proc/keys",
        "/proc/acpi/wakeup",
        "/proc/irq/1/smp_affinity",
        "/proc/scsi/scsi",
        "/proc/sysvipc/shm",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/shared",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/vm/panic_on_oom",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/security/apparmor/.remove",
        "/sys/firmware/efi/vars/x",
        "/sys/fs/bpf/x",
        "/sys/fs/cgroups",
        "/sys/class/net/eth0/mtu",
    ],
)
def test_the_kernel_s_files_are_not_written(path: str) -> None:
    assert denied(path, "w")


@pytest.mark.parametrize(
    "path",
    [
        "/proc/1/attr/exec",
        "/proc/12345/oom_score_adj",
        "/proc/sys/kernel/shmmax",
        "/proc/sys/kernel/shm_rmid_forced",
        "/sys/fs/cgroup/x/cgroup.procs",
        "/etc/passwd",
        "/dev/shm/x",
    ],
)
def test_a_container_s_own_files_are_written(path: str) -> None:
    assert not denied(path, "w")


@pytest.mark.parametrize("path", ["/proc/kcore", "/sys/firmware/acpi/tables/DSDT"])
def test_what_tells_of_the_machine_is_not_read(path: str) -> None:
    assert denied(path, "r")


def test_nothing_is_mounted_and_no_crypto_socket_is_opened() -> None:
    lines = [line.strip() for line in text().splitlines()]
    assert {"deny mount,", "deny network alg,"} <= set(lines)


def test_signals_come_from_the_host_and_from_within() -> None:
    lines = profile(daemon="confined", abi=False, tunables=False, base=False)
    for peer in ("unconfined", "confined"):
        assert f'signal (receive) peer="{peer}",' in lines
    assert f'signal (send, receive) peer="{NAME}",' in lines


@pytest.mark.parametrize("has", [True, False])
def test_the_parser_takes_it(has: bool, tmp_path: Path) -> None:
    assert PARSER.exists(), "apt-get install apparmor"
    file = tmp_path / "profile"
    file.write_text(text(abi=has, tunables=has, base=has))
    command = [str(PARSER), "--skip-kernel-load", "--skip-cache", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
