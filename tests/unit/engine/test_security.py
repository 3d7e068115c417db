"""Capabilities, security options, seccomp profiles."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine import security
from sampan.errors import InvalidArgument
from sampan.linux.capabilities import all_names
from sampan.runtime.defaults import CAPABILITIES
from sampan.spec.docker.config import HostConfig


def test_without_wishes_a_container_has_docker_s_capabilities() -> None:
    assert security.capabilities(HostConfig()) == list(CAPABILITIES)


def test_added_and_dropped_capabilities_may_be_written_in_any_way() -> None:
    host = HostConfig(cap_add=["net_admin", "CAP_SYS_PTRACE"], cap_drop=["cap_chown"])
    names = security.capabilities(host)
    assert "CAP_CHOWN" not in names
    assert names[-2:] == ["CAP_NET_ADMIN", "CAP_SYS_PTRACE"]


def test_all_can_be_added_but_for_some_and_dropped_but_for_some() -> None:
    assert security.capabilities(HostConfig(cap_drop=["ALL"], cap_add=["KILL"])) == ["CAP_KILL"]
    names = security.capabilities(HostConfig(cap_add=["all"], cap_drop=["SYS_ADMIN"]))
    assert set(all_names()) - set(names) == {"CAP_SYS_ADMIN"}
    assert security.capabilities(HostConfig(privileged=True, cap_drop=["ALL"])) == all_names()


def test_an_unknown_capability_is_named_in_docker_s_words() -> None:
    with pytest.raises(InvalidArgument, match='invalid CapAdd: unknown capability: "CAP_NO_SUCH"'):
        security.capabilities(HostConfig(cap_add=["CAP_NO_SUCH"]))


def test_security_options_are_taken_apart() -> None:
    options = security.parse_security_opt(
        ["no-new-privileges", "seccomp=unconfined", "apparmor:mine", "label=type:svirt_t"]
    )
    assert options.no_new_privileges
    assert options.seccomp == "unconfined"
    assert options.apparmor == "mine"
    assert options.selinux_label == "system_u:system_r:svirt_t:s0"


@pytest.mark.parametrize("option", ["", "nonsense", "unknown=x", "no-new-privileges=maybe"])
def test_a_wrong_security_option_is_refused(option: str) -> None:
    with pytest.raises(InvalidArgument, match="invalid --security-opt"):
        security.parse_security_opt([option])


@given(st.text())
def test_no_security_option_raises_anything_but_invalid_argument(option: str) -> None:
    try:
        security.parse_security_opt([option])
    except InvalidArgument:
        pass


def test_the_default_filter_allows_mounting_only_with_its_capability() -> None:
    options = security.SecurityOptions()
    usual = security.seccomp(options, CAPABILITIES, privileged=False)
    strong = security.seccomp(options, [*CAPABILITIES, "CAP_SYS_ADMIN"], privileged=False)
    assert usual
    assert strong
    assert not any("mount" in rule.names for rule in usual.syscalls)
    assert any("mount" in rule.names for rule in strong.syscalls)


def test_privileged_and_unconfined_containers_have_no_filter() -> None:
    assert security.seccomp(security.SecurityOptions(), [], privileged=True) is None
    options = security.SecurityOptions(seccomp="unconfined")
    assert security.seccomp(options, [], privileged=False) is None


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
    few = security.load_profile(profile, frozenset())
    many = security.load_profile(profile, frozenset({"CAP_SYS_BOOT", "CAP_SYS_ADMIN"}))
    assert [rule.names for rule in few.syscalls] == [["read"], ["clone"]]
    assert [rule.names for rule in many.syscalls] == [["read"], ["reboot"]]


def test_a_profile_that_is_no_json_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="Decoding seccomp profile failed"):
        security.load_profile("{", frozenset())
