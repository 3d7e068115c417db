"""Seccomp profiles of containers: the built-in one, that of the daemon, and files."""

from __future__ import annotations

import json

import pytest

from sampan.engine.oci import seccomp_profiles
from sampan.engine.oci.security import SecurityOptions
from sampan.errors import InvalidArgument
from sampan.runtime.defaults import CAPABILITIES


def test_the_default_filter_allows_mounting_only_with_its_capability() -> None:
    options = SecurityOptions()
    usual = seccomp_profiles.seccomp(options, CAPABILITIES, privileged=False)
    strong = seccomp_profiles.seccomp(options, [*CAPABILITIES, "CAP_SYS_ADMIN"], privileged=False)
    assert usual
    assert strong
    assert not any("mount" in rule.names for rule in usual.syscalls)
    assert any("mount" in rule.names for rule in strong.syscalls)


def test_privileged_and_unconfined_containers_have_no_filter() -> None:
    assert seccomp_profiles.seccomp(SecurityOptions(), [], privileged=True) is None
    options = SecurityOptions(seccomp="unconfined")
    assert seccomp_profiles.seccomp(options, [], privileged=False) is None


def test_a_profile_s_rules_depend_on_capabilities() -> None:
    profile = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []}],
            "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": None},
                {
                    "names": ["reboot"],
                    "action": "SCMP_ACT_ALLOW",
                    "includes": {"caps": ["CAP_SYS_BOOT"]},
                },
                {
                    "name": "clone",
                    "action": "SCMP_ACT_ALLOW",
                    "excludes": {"caps": ["CAP_SYS_ADMIN"]},
                },
                {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.0"}},
            ],
        }
    )
    few = seccomp_profiles.load_profile(profile, frozenset())
    many = seccomp_profiles.load_profile(profile, frozenset({"CAP_SYS_BOOT", "CAP_SYS_ADMIN"}))
    assert [rule.names for rule in few.syscalls] == [["read"], ["clone"]]
    assert [rule.names for rule in many.syscalls] == [["read"], ["reboot"]]


def test_a_profile_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="Decoding seccomp profile failed"):
        seccomp_profiles.load_profile("{", frozenset())


def test_a_profile_that_says_nothing_is_no_filter() -> None:
    assert seccomp_profiles.load_profile("{}", frozenset()) is None


def test_the_profile_of_the_daemon_is_for_those_that_name_none() -> None:
    profile = json.dumps({"defaultAction": "SCMP_ACT_LOG"})
    usual = seccomp_profiles.seccomp(SecurityOptions(), [], False, default=profile)
    assert usual
    assert usual.default_action == "SCMP_ACT_LOG"
    builtin = SecurityOptions(seccomp="builtin")
    named = seccomp_profiles.seccomp(builtin, [], False, default=profile)
    assert named
    assert named.default_action == "SCMP_ACT_ERRNO"
    assert seccomp_profiles.seccomp(SecurityOptions(), [], False, default="unconfined") is None
    assert seccomp_profiles.seccomp(SecurityOptions(), [], True, default=profile) is None
    assert seccomp_profiles.seccomp(builtin, [], True)


@pytest.mark.parametrize(
    "rule",
    [
        {"names": ["mkdir"], "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
        {"names": ["mkdir"] * 10},
    ],
)
def test_a_profile_that_no_filter_can_hold_is_refused_at_once(rule: dict[str, object]) -> None:
    rules = [{**rule, "action": "SCMP_ACT_ERRNO"}] * 2000
    text = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})
    with pytest.raises(InvalidArgument, match="more rules than a filter can have"):
        seccomp_profiles.load_profile(text, frozenset())


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ("", "Decoding seccomp profile failed"),
        ("[]", "Decoding seccomp profile failed"),
        ('{"defaultAction": 7}', "Decoding seccomp profile failed"),
        ('{"defaultAction": "FOO"}', "string FOO is not a valid action for seccomp"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "BAR"}]}',
            "string BAR is not a valid action for seccomp",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"action": "SCMP_ACT_KILL"}]}',
            "a seccomp rule names no system call",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "name": "b",'
            ' "action": "SCMP_ACT_KILL"}]}',
            "both 'name' and 'names' are specified",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action":'
            ' "SCMP_ACT_KILL", "args": [{"index": 0, "value": 1, "op": "~"}]}]}',
            "string ~ is not a valid operator for seccomp",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action":'
            ' "SCMP_ACT_KILL", "args": [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]}]}',
            "seccomp argument index must be between 0 and 5",
        ),
        ('{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}', "seccomp flag 'X' not known"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["FOO"]}',
            "string FOO is not a valid arch for seccomp",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap":'
            ' [{"architecture": "SCMP_ARCH_X86_64"}]}',
            "both 'architectures' and 'archMap' are specified",
        ),
        ('{"defaultAction": "SCMP_ACT_NOTIFY"}', "cannot be used as default action"),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action":'
            ' "SCMP_ACT_NOTIFY"}]}',
            "seccomp listenerPath is not set",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action":'
            ' "SCMP_ACT_ERRNO", "errnoRet": 70000}]}',
            "seccomp errnoRet 70000 is out of range",
        ),
        (
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir"], "action":'
            ' "SCMP_ACT_ERRNO", "includes": {"minKernel": "new"}}]}',
            'invalid kernel version: "new"',
        ),
    ],
)
def test_a_broken_profile_is_refused_by_what_is_wrong(profile: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        seccomp_profiles.load_profile(profile, frozenset())
    assert sentence in str(refused.value)
