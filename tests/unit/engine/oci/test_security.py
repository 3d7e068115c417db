"""Capabilities and security options."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.host import host_facts
from sampan.engine.oci import security
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


@pytest.mark.parametrize("option", ["label=", "label=user:", "label=colour:red"])
def test_a_label_has_a_known_name_and_a_value(option: str) -> None:
    with pytest.raises(InvalidArgument, match="bad label option"):
        security.parse_security_opt([option])


def test_what_the_kernel_lacks_is_told_by_name() -> None:
    options = security.parse_security_opt(["apparmor=mine", "label=type:svirt_t"])
    without = replace(host_facts(), apparmor=False, selinux=False)
    assert options.discarded(without) == [
        'AppArmor is not enabled on this host. The profile "mine" is discarded.',
        "SELinux is not enabled on this host. Labels discarded: type:svirt_t.",
    ]
    assert options.discarded(replace(without, apparmor=True, selinux=True)) == []
    lifted = security.parse_security_opt(["apparmor=unconfined", "label=disable"])
    assert lifted.discarded(without) == []
