"""Docker's default profile."""

from __future__ import annotations

import pytest

from sampan.runtime.confinement.seccomp_profile import default_profile
from sampan.spec.runtime import LinuxSeccomp, LinuxSeccompArg

DOCKER = ("CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_KILL")
KERNEL = (6, 1)


def rules(profile: LinuxSeccomp, name: str) -> list[tuple[str, list[LinuxSeccompArg]]]:
    return [(rule.action, rule.args) for rule in profile.syscalls if name in rule.names]


def allowed(name: str, *capabilities: str, kernel: tuple[int, int] = KERNEL) -> bool:
    found = rules(default_profile("amd64", capabilities, kernel), name)
    return any(action == "SCMP_ACT_ALLOW" for action, _ in found)


def test_everything_else_is_eperm() -> None:
    profile = default_profile("amd64", DOCKER, KERNEL)
    assert (profile.default_action, profile.default_errno_ret) == ("SCMP_ACT_ERRNO", 1)


def test_361_calls_are_always_allowed() -> None:
    always = default_profile("ppc64", (), (4, 0)).syscalls[0]
    assert len(always.names) == len(set(always.names)) == 361
    assert always.args == []


@pytest.mark.parametrize(
    "name",
    [
        *("io_uring_setup", "io_uring_enter", "io_uring_register", "keyctl", "add_key"),
        *("request_key", "userfaultfd", "kexec_load", "kexec_file_load", "swapon", "swapoff"),
        *("create_module", "nfsservctl", "vm86", "_sysctl", "pivot_root", "move_pages"),
    ],
)
def test_some_calls_are_never_allowed(name: str) -> None:
    every = default_profile("amd64", ["CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_BOOT"], KERNEL)
    assert rules(every, name) == []


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        *(("mount", "CAP_SYS_ADMIN"), ("unshare", "CAP_SYS_ADMIN"), ("setns", "CAP_SYS_ADMIN")),
        *(("bpf", "CAP_BPF"), ("bpf", "CAP_SYS_ADMIN"), ("perf_event_open", "CAP_PERFMON")),
        *(("open_by_handle_at", "CAP_DAC_READ_SEARCH"), ("reboot", "CAP_SYS_BOOT")),
        *(
            ("chroot", "CAP_SYS_CHROOT"),
            ("init_module", "CAP_SYS_MODULE"),
            ("kcmp", "CAP_SYS_PTRACE"),
        ),
        *(("iopl", "CAP_SYS_RAWIO"), ("clock_settime", "CAP_SYS_TIME"), ("acct", "CAP_SYS_PACCT")),
        *(("vhangup", "CAP_SYS_TTY_CONFIG"), ("mbind", "CAP_SYS_NICE"), ("syslog", "CAP_SYSLOG")),
    ],
)
def test_some_calls_come_with_a_capability(name: str, capability: str) -> None:
    assert not allowed(name, "CAP_CHOWN")
    assert allowed(name, capability)


@pytest.mark.parametrize(
    ("family", "is_allowed"),
    [
        (1, True),
        (2, True),
        (16, True),
        (37, True),
        (39, True),
        (41, True),
        (38, False),
        (40, False),
        (38 | 1 << 32, False),  # the kernel reads the lower half
        (40 | 1 << 63, False),
        (2 | 1 << 32, True),
    ],
)
def test_kernel_crypto_and_vsock_sockets_are_refused(family: int, is_allowed: bool) -> None:
    # CVE-2026-31431
    found = [args for _, args in rules(default_profile("amd64", DOCKER, KERNEL), "socket")]
    assert all((one.index, one.op) == (0, "SCMP_CMP_MASKED_EQ") for (one,) in found)
    assert any(family & one.value == one.value_two for (one,) in found) is is_allowed


def test_clone3_tells_the_c_library_to_use_clone() -> None:
    found = [
        rule for rule in default_profile("amd64", DOCKER, KERNEL).syscalls if "clone3" in rule.names
    ]
    assert [(rule.action, rule.errno_ret) for rule in found] == [("SCMP_ACT_ERRNO", 38)]
    assert allowed("clone3", "CAP_SYS_ADMIN")


@pytest.mark.parametrize(("architecture", "index"), [("amd64", 0), ("arm64", 0), ("s390x", 1)])
def test_clone_makes_no_namespaces(architecture: str, index: int) -> None:
    ((action, args),) = rules(default_profile(architecture, DOCKER, KERNEL), "clone")
    assert action == "SCMP_ACT_ALLOW"
    assert args == [LinuxSeccompArg(index=index, value=0x7E020000, op="SCMP_CMP_MASKED_EQ")]
    assert ("SCMP_ACT_ALLOW", []) in rules(
        default_profile(architecture, ["CAP_SYS_ADMIN"], KERNEL), "clone"
    )


def test_five_personalities_are_allowed() -> None:
    found = rules(default_profile("amd64", DOCKER, KERNEL), "personality")
    assert [args[0].value for _, args in found] == [0, 8, 0x20000, 0x20008, 0xFFFFFFFF]


def test_ptrace_needs_a_kernel_that_checks_again() -> None:
    assert not allowed("ptrace", kernel=(4, 7))
    assert allowed("ptrace", kernel=(4, 8))
    assert allowed("ptrace", "CAP_SYS_PTRACE", kernel=(4, 7))


@pytest.mark.parametrize(
    ("architecture", "native", "extra"),
    [
        ("amd64", "SCMP_ARCH_X86_64", "arch_prctl"),
        ("arm64", "SCMP_ARCH_AARCH64", "set_tls"),
        ("riscv64", "SCMP_ARCH_RISCV64", "riscv_flush_icache"),
        ("s390x", "SCMP_ARCH_S390X", "s390_pci_mmio_read"),
    ],
)
def test_an_architecture_has_its_own_calls(architecture: str, native: str, extra: str) -> None:
    profile = default_profile(architecture, DOCKER, KERNEL)
    assert profile.architectures[0] == native
    assert rules(profile, extra) == [("SCMP_ACT_ALLOW", [])]
    assert (architecture == "amd64") == bool(rules(profile, "modify_ldt"))


def test_files_of_a_sized_container_stay_in_their_project() -> None:
    found = rules(default_profile("amd64", DOCKER, KERNEL, sized=True), "ioctl")
    conditions = [args[0] for action, args in found if action == "SCMP_ACT_ALLOW"]
    assert len(conditions) == len(found)

    def passes(command: int) -> bool:
        return sum(command & each.value == each.value_two for each in conditions) == 1

    assert {each.index for each in conditions} == {1}
    kept = (0x401C5820, 0x40086602, 0x40046602)  # FSSETXATTR, SETFLAGS and that of 32 bits
    assert not any(passes(command) for command in kept)
    assert not passes(0xDEADBEEF_401C5820), "the kernel reads the lower half only"
    near = {command ^ 1 << place for command in kept for place in range(32)} - {*kept}
    assert all(passes(command) for command in (*near, 0, 0x5401, 0x801C581F, 0xFFFFFFFF))
    assert rules(default_profile("amd64", DOCKER, KERNEL), "ioctl") == [("SCMP_ACT_ALLOW", [])]
