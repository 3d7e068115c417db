"""What the doctor concludes; the probes of this host are asked in tests/privileged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest

from sampan.engine.doctor.examination import examine
from sampan.engine.doctor.findings import Finding, as_json, as_text, exit_code, warnings
from sampan.engine.doctor.kernel import mandatory_access
from sampan.engine.doctor.networking import firewall
from sampan.engine.doctor.storage import GIB, storage_drivers

ALL = frozenset(
    {
        "CAP_SYS_ADMIN",
        "CAP_NET_ADMIN",
        "CAP_SETUID",
        "CAP_SETGID",
        "CAP_MKNOD",
        "CAP_SYS_RESOURCE",
    }
)
CONTROLLERS = frozenset({"memory", "cpu", "cpuset", "pids", "io", "hugetlb"})


@dataclass
class FakeProbes:
    """A host that has everything, but for what a test takes away."""

    root: bool = True
    held: frozenset[str] = ALL
    files: dict[str, str] = field(
        default_factory=lambda: {
            "/proc/sys/kernel/seccomp/actions_avail": "kill",
            "/sys/module/apparmor/parameters/enabled": "Y\n",
            "/sys/kernel/security/apparmor/profiles": "",
            "/usr/sbin/apparmor_parser": "",
            "/proc/sys/net/ipv4/ip_forward": "1\n",
            "/proc/net/if_inet6": "",
        }
    )
    failures: dict[str, str] = field(default_factory=dict)  # probe or "probe:argument" → reason
    layout: tuple[str, frozenset[str]] = ("v2", CONTROLLERS)
    kind: str = "ext4"
    free: int = 100 * GIB
    limit: int = 1 << 20

    def is_root(self) -> bool:
        return self.root

    def capabilities(self) -> frozenset[str]:
        return self.held

    def kernel(self) -> str:
        return "6.18"

    def read(self, path: str) -> str:
        return self.files.get(path, "")

    def exists(self, path: str) -> bool:
        return path in self.files

    def namespaces(self, kinds: Sequence[str]) -> dict[str, str]:
        return {kind: self.failures.get(f"namespace:{kind}", "") for kind in kinds}

    def system_calls(self, names: Sequence[str]) -> dict[str, str]:
        return {name: self.failures.get(f"system_call:{name}", "") for name in names}

    def pidfd_info(self) -> str:
        return self.failures.get("pidfd_info", "")

    def library(self, name: str) -> str:
        return self.failures.get(f"library:{name}", "")

    def overlay(self) -> str:
        return self.failures.get("overlay", "")

    def idmapped_mounts(self) -> str:
        return self.failures.get("idmapped_mounts", "")

    def bridge(self) -> str:
        return self.failures.get("bridge", "")

    def veth(self) -> str:
        return self.failures.get("veth", "")

    def nftables(self) -> str:
        return self.failures.get("nftables", "")

    def controllers(self) -> tuple[str, frozenset[str]]:
        return self.layout

    def file_system(self, path: str) -> str:
        return self.kind

    def free_bytes(self, path: str) -> int:
        return self.free

    def open_files(self) -> int:
        return self.limit


def examined(probes: FakeProbes) -> list[Finding]:
    return examine(probes, "/var/lib/sampan")


def without(path: str) -> FakeProbes:
    probes = FakeProbes()
    del probes.files[path]
    return probes


def failing(**failures: str) -> FakeProbes:
    return FakeProbes(failures={key.replace("__", ":"): why for key, why in failures.items()})


def test_a_host_that_has_everything_needs_nothing() -> None:
    findings = examined(FakeProbes())
    assert {finding.severity for finding in findings} == {"ok"}
    assert warnings(findings) == []
    assert exit_code(findings) == 0
    assert as_text(findings).endswith("This host has all that containers need.\n")


@pytest.mark.parametrize(
    ("probes", "topic", "severity", "effect"),
    [
        (FakeProbes(root=False), "privileges", "error", "sampand does not start"),
        (FakeProbes(held=ALL - {"CAP_MKNOD"}), "privileges", "error", "cannot be made"),
        (FakeProbes(held=ALL - {"CAP_SYS_RESOURCE"}), "privileges", "warning", "--ulimit"),
        (failing(system_call__openat2="ENOSYS"), "kernel", "error", "cannot be started safely"),
        (failing(pidfd_info="ENOTTY"), "kernel", "note", "exit code is lost"),
        (failing(namespace__pid="no"), "namespaces", "error", "cannot be made"),
        (failing(namespace__time="no"), "namespaces", "note", "share these with the host"),
        (FakeProbes(layout=("none", frozenset())), "cgroups", "error", "no container"),
        (FakeProbes(layout=("v1", CONTROLLERS - {"pids"})), "cgroups", "warning", "--pids-limit"),
        (FakeProbes(layout=("v2", CONTROLLERS - {"hugetlb"})), "cgroups", "note", "huge pages"),
        (FakeProbes(layout=("hybrid", CONTROLLERS)), "cgroups", "note", "version 1"),
        (without("/proc/sys/kernel/seccomp/actions_avail"), "seccomp", "warning", "without a"),
        (failing(**{"library__libseccomp.so.2": "gone"}), "seccomp", "error", "unconfined"),
        (
            without("/sys/module/apparmor/parameters/enabled"),
            "AppArmor, SELinux",
            "note",
            "have no effect",
        ),
        (
            without("/sys/kernel/security/apparmor/profiles"),
            "AppArmor, SELinux",
            "note",
            "cannot be loaded",
        ),
        (
            without("/usr/sbin/apparmor_parser"),
            "AppArmor, SELinux",
            "warning",
            "without the profile",
        ),
        (failing(idmapped_mounts="no"), "id-mapped mounts", "note", "do not start"),
        (failing(veth="no veth pair"), "bridge and veth", "warning", "--network host"),
        (failing(nftables="no"), "firewall", "warning", "ports be published"),
        (failing(**{"library__libnftables.so.1": "gone"}), "firewall", "warning", "published"),
        (without("/proc/sys/net/ipv4/ip_forward"), "forwarding", "note", "switches it on"),
        (without("/proc/net/if_inet6"), "IPv6", "note", "IPv4 addresses only"),
        (FakeProbes(limit=1024), "open files", "warning", "85 containers"),
        (failing(overlay="no overlay"), "storage", "warning", "vfs"),
        (FakeProbes(kind="nfs"), "storage", "warning", "vfs"),
        (FakeProbes(free=3 * GIB), "disk", "warning", "may not fit"),
        (FakeProbes(free=GIB // 2), "disk", "error", "may not fit"),
    ],
)
def test_what_is_missing_is_named_with_its_effect_and_a_remedy(
    probes: FakeProbes, topic: str, severity: str, effect: str
) -> None:
    findings = examined(probes)
    [bad] = [finding for finding in findings if finding.severity != "ok"]
    assert (bad.topic, bad.severity) == (topic, severity)
    assert effect in bad.effect
    assert bad.found
    assert bad.remedy
    assert bool(warnings(findings)) == (severity in ("warning", "error"))
    assert exit_code(findings) == (severity == "error")


def test_selinux_is_as_good_as_apparmor() -> None:
    probes = without("/sys/module/apparmor/parameters/enabled")
    probes.files["/sys/fs/selinux/enforce"] = "1"
    assert mandatory_access(probes).found == "SELinux is on"


def test_the_old_iptables_is_told_of() -> None:
    probes = FakeProbes()
    probes.files["/proc/net/ip_tables_names"] = "nat\nfilter\n"
    assert "iptables-legacy" in firewall(probes).remedy


def test_programs_get_json() -> None:
    decoded = msgspec.json.decode(as_json(examined(FakeProbes())))
    assert decoded[0] == {
        "topic": "privileges",
        "severity": "ok",
        "found": "root with all capabilities that are needed",
        "effect": "",
        "remedy": "",
    }


def test_text_names_effect_and_remedy() -> None:
    text = as_text(examined(FakeProbes(limit=1200)))
    assert "WARNING open files: at most 1200 open files" in text
    assert "because of it: about 100 containers" in text
    assert text.endswith("1 of 14 findings need attention.\n")


def test_each_storage_driver_says_whether_it_works() -> None:
    found = storage_drivers({"overlay": "", "btrfs": "wrong filesystem", "vfs": ""})
    assert (found.severity, found.found) == (
        "ok",
        "overlay, vfs work here; btrfs: wrong filesystem",
    )
    none = storage_drivers({"overlay": "read-only"})
    assert (none.severity, none.effect) == (
        "error",
        "neither images nor containers can be made; overlay: read-only",
    )
