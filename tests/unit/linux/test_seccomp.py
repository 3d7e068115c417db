"""Compiling seccomp profiles; the programs are interpreted by the test."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.linux import seccomp
from sampan.spec.runtime import LinuxSeccomp, LinuxSeccompArg, LinuxSyscall

X86_64, I386 = 0xC000003E, 0x40000003
ALLOW, ERRNO, KILL = 0x7FFF0000, 0x00050000, 0


def run(code: bytes, arch: int, number: int, *args: int) -> int:
    """Interpret classic BPF on a seccomp_data; returns what the filter answers."""
    words = list(struct.unpack("=12I", struct.pack("=6Q", *args, *[0] * (6 - len(args)))))
    data = [number, arch, 0, 0, *words]
    accumulator = place = 0
    while True:
        op, if_true, if_false, k = struct.unpack_from("=HBBI", code, place * 8)
        place += 1
        if op == 0x20:
            accumulator = data[k // 4]
        elif op == 0x54:
            accumulator &= k
        elif op == 0x06:
            return int(k)
        elif op == 0x05:
            place += k
        else:
            truth = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[op]
            place += if_true if truth else if_false


def compiled(*rules: LinuxSyscall, default: str = "SCMP_ACT_ERRNO", **fields: object) -> bytes:
    profile = LinuxSeccomp(default_action=default, syscalls=list(rules), **fields)  # type: ignore[arg-type]
    built, warnings = seccomp.compile_filter(profile)
    assert warnings == []
    return built.code


def allow(*names: str, args: list[LinuxSeccompArg] | None = None) -> LinuxSyscall:
    return LinuxSyscall(names=list(names), action="SCMP_ACT_ALLOW", args=args or [])


pytestmark = pytest.mark.skipif(seccomp.NR.get("mount") != 165, reason="numbers are of x86_64")


def test_what_is_not_named_gets_the_default() -> None:
    code = compiled(allow("read"), default_errno_ret=7)
    assert run(code, X86_64, 0) == ALLOW
    assert run(code, X86_64, 1) == ERRNO | 7


def test_errno_is_eperm_unless_said() -> None:
    assert run(compiled(allow("read")), X86_64, 1) == ERRNO | 1


def test_a_call_newer_than_all_named_fails_with_enosys() -> None:
    code = compiled(allow("read", "clone3"))
    assert run(code, X86_64, 435) == ALLOW
    assert run(code, X86_64, 436) == ERRNO | 38
    assert run(code, X86_64, 434) == ERRNO | 1


def test_a_call_without_a_name_in_the_library_goes_by_number() -> None:
    code = compiled(allow("read", "mseal"))
    assert run(code, X86_64, 462) == ALLOW
    assert run(code, X86_64, 461) == ERRNO | 1
    assert run(code, X86_64, 463) == ERRNO | 38


def test_an_allowing_profile_has_no_unknown_calls() -> None:
    forbid = LinuxSyscall(names=["clone3"], action="SCMP_ACT_ERRNO")
    code = compiled(forbid, default="SCMP_ACT_ALLOW")
    assert run(code, X86_64, 435) == ERRNO | 1
    assert run(code, X86_64, 999) == ALLOW


def test_another_architecture_is_refused_unless_listed() -> None:
    assert run(compiled(allow("read", "mseal")), I386, 462) == KILL
    code = compiled(allow("read", "mseal"), architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    assert run(code, I386, 3) == ALLOW  # read
    assert run(code, I386, 462) == ALLOW
    assert run(code, X86_64, 0x40000000 | 462) != ALLOW  # x32 is not in the list


def test_conditions_on_several_arguments_are_all_needed() -> None:
    both = [
        LinuxSeccompArg(index=0, value=2, op="SCMP_CMP_EQ"),
        LinuxSeccompArg(index=1, value=5, op="SCMP_CMP_GT"),
    ]
    code = compiled(allow("socket", args=both))
    assert run(code, X86_64, 41, 2, 6) == ALLOW
    assert run(code, X86_64, 41, 2, 5) == ERRNO | 1
    assert run(code, X86_64, 41, 3, 6) == ERRNO | 1


def test_conditions_on_the_same_argument_are_alternatives() -> None:
    either = [LinuxSeccompArg(index=0, value=value) for value in (2, 10)]
    code = compiled(allow("socket", args=either))
    assert [run(code, X86_64, 41, value) for value in (2, 10, 3)] == [ALLOW, ALLOW, ERRNO | 1]


def test_unknown_calls_are_passed_over() -> None:
    assert run(compiled(allow("read", "no_such_call")), X86_64, 0) == ALLOW


@pytest.mark.parametrize(
    "profile",
    [
        LinuxSeccomp(default_action="SCMP_ACT_NIX"),
        LinuxSeccomp(default_action="SCMP_ACT_NOTIFY"),
        LinuxSeccomp(default_action="SCMP_ACT_ALLOW", default_errno_ret=3),
        LinuxSeccomp(default_action="SCMP_ACT_ERRNO", default_errno_ret=70000),
        LinuxSeccomp(default_action="SCMP_ACT_ALLOW", flags=["NIX"]),
        LinuxSeccomp(
            default_action="SCMP_ACT_ALLOW",
            syscalls=[LinuxSyscall(names=["mount"], action="SCMP_ACT_NOTIFY")],
        ),
        LinuxSeccomp(
            default_action="SCMP_ACT_ALLOW",
            listener_path="/x",
            syscalls=[LinuxSyscall(names=["write"], action="SCMP_ACT_NOTIFY")],
        ),
        LinuxSeccomp(
            default_action="SCMP_ACT_ERRNO",
            syscalls=[allow("read", args=[LinuxSeccompArg(index=6, value=0)])],
        ),
        LinuxSeccomp(
            default_action="SCMP_ACT_ERRNO",
            syscalls=[allow("read", args=[LinuxSeccompArg(index=0, value=0, op="LIKE")])],
        ),
        LinuxSeccomp(
            default_action="SCMP_ACT_ERRNO",
            syscalls=[allow("read", args=[LinuxSeccompArg(index=0, value=1 << 64)])],
        ),
    ],
)
def test_what_is_no_profile_is_refused(profile: LinuxSeccomp) -> None:
    with pytest.raises(InvalidArgument):
        seccomp.compile_filter(profile)


def test_an_unknown_architecture_is_a_warning() -> None:
    profile = LinuxSeccomp(default_action="SCMP_ACT_ALLOW", architectures=["SCMP_ARCH_LOONGARCH64"])
    _, warnings = seccomp.compile_filter(profile)
    assert warnings == ["seccomp architecture SCMP_ARCH_LOONGARCH64 is not known to libseccomp"]


def test_flags_and_listener_are_kept() -> None:
    profile = LinuxSeccomp(
        default_action="SCMP_ACT_ALLOW",
        flags=["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
        listener_path="/agent",
        syscalls=[LinuxSyscall(names=["mount"], action="SCMP_ACT_NOTIFY")],
    )
    built, _ = seccomp.compile_filter(profile)
    assert (built.flags, built.has_listener) == (6, True)


def test_a_program_is_kept_on_disk_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = LinuxSeccomp(default_action="SCMP_ACT_ALLOW", syscalls=[], default_errno_ret=None)
    monkeypatch.setattr(seccomp, "_compiled", {})
    first, _ = seccomp.compile_filter(profile, str(tmp_path))
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == first.code
    monkeypatch.setattr(seccomp, "_compiled", {})
    monkeypatch.setattr(seccomp, "_compile", None)
    again, _ = seccomp.compile_filter(profile, str(tmp_path))
    assert again == first


def test_a_broken_file_in_the_cache_is_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = LinuxSeccomp(default_action="SCMP_ACT_LOG")
    monkeypatch.setattr(seccomp, "_compiled", {})
    first, _ = seccomp.compile_filter(profile, str(tmp_path))
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"short")
    monkeypatch.setattr(seccomp, "_compiled", {})
    assert seccomp.compile_filter(profile, str(tmp_path))[0] == first


def test_an_old_profile_tells_new_calls_apart_too() -> None:
    code = compiled(allow("read", "execve"))
    assert run(code, X86_64, 439) == ERRNO | 38  # faccessat2
    assert run(code, X86_64, 333) == ERRNO | 1  # below the common numbers
