"""The AppArmor profile of containers, where the kernel has AppArmor: what it confines, and whom."""

from __future__ import annotations

import signal
import subprocess
from typing import Any

import pytest

from tests.daemon import Daemon
from tests.inside import create, execute, run, started
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.kernel("apparmor")]

OURS = "sampan-default (enforce)\n"
CURRENT = "cat /proc/self/attr/current"
LIFTED = {"MaskedPaths": [], "ReadonlyPaths": []}


@pytest.mark.parametrize(
    ("fields", "profile"),
    [
        ({}, OURS),
        ({"SecurityOpt": ["apparmor=sampan-default"]}, OURS),
        ({"SecurityOpt": ["apparmor:docker-default"]}, OURS),
        ({"SecurityOpt": ["apparmor=unconfined"]}, "unconfined\n"),
        ({"Privileged": True}, "unconfined\n"),
        ({"Privileged": True, "SecurityOpt": ["apparmor=sampan-default"]}, OURS),
        ({"User": "1000", "SecurityOpt": ["no-new-privileges"]}, OURS),
    ],
)
def test_a_container_is_in_the_profile_that_it_should_be_in(
    daemon: Daemon, fields: dict[str, Any], profile: str
) -> None:
    assert run(daemon, CURRENT, **fields).out.replace("\0", "") == profile
    with started(daemon, "sleep 1000", **fields) as container:
        found = daemon.request("GET", f"/containers/{container}/json").json
        assert found["AppArmorProfile"] == profile.split()[0]
        assert execute(daemon, container, CURRENT).out.replace("\0", "") == profile
        more = execute(daemon, container, CURRENT, Privileged=True).out.replace("\0", "")
        assert more == "unconfined\n"


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("echo x >/proc/sys/kernel/core_pattern", {}),
        ("echo x >/proc/sys/vm/drop_caches", {}),
        ("echo h >/proc/sysrq-trigger", {}),
        ("head -c1 /proc/kcore", {"CapAdd": ["SYS_RAWIO"]}),
        ("mount -t tmpfs x /home", {"CapAdd": ["SYS_ADMIN"]}),
        ("mount --bind /bin /home", {"CapAdd": ["SYS_ADMIN"]}),
    ],
)
def test_what_no_mask_hides_the_profile_still_forbids(
    daemon: Daemon, script: str, options: dict[str, Any]
) -> None:
    fields = {**LIFTED, **options, "SecurityOpt": ["seccomp=unconfined"]}
    seen = run(daemon, script, **fields)
    assert seen.code != 0
    assert "ermission denied" in seen.err


def test_a_container_can_do_its_work_and_be_stopped(daemon: Daemon) -> None:
    script = (
        "echo 1 >/proc/self/oom_score_adj && ping -c1 127.0.0.1 >/dev/null && kill -0 1 && id -u"
    )
    assert run(daemon, script).out == "0\n"
    with started(daemon, "trap 'exit 7' TERM; while :; do sleep 0.1; done") as container:
        assert daemon.request("POST", f"/containers/{container}/stop?t=60").status == 204
        state = daemon.request("GET", f"/containers/{container}/json").json["State"]
        assert state["ExitCode"] == 7


def test_a_profile_that_is_not_loaded_is_refused_by_name(daemon: Daemon) -> None:
    container = create(daemon, "true", SecurityOpt=["apparmor=not-loaded"])
    answer = daemon.request("POST", f"/containers/{container}/start")
    assert answer.status == 400
    assert "apparmor failed to apply profile: not-loaded: it is not loaded" in answer.body.decode()


def test_a_reload_loads_the_profile_again(daemon: Daemon) -> None:
    """An administrator who has taken it away gets it back without a restart."""
    profile = 'profile "sampan-default" { }'
    subprocess.run(["apparmor_parser", "--remove"], input=profile.encode(), check=True)
    container = create(daemon, CURRENT)
    assert daemon.request("POST", f"/containers/{container}/start").status == 400
    assert daemon.process
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: daemon.request("POST", f"/containers/{container}/start").status == 204)
    assert run(daemon, CURRENT).out.replace("\0", "") == OURS


def test_info_names_apparmor(daemon: Daemon) -> None:
    assert "name=apparmor" in daemon.request("GET", "/info").json["SecurityOptions"]
