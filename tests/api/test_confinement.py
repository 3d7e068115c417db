"""What confines a container, flag by flag: the kernel is asked, inside the container."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.daemon import Daemon, running
from tests.inside import Seen, body, create, execute, run, started
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.kernel]

STATUS = "grep -E '^({})' /proc/self/status | tr -d '\\t'"
CAPS = STATUS.format("CapPrm|CapBnd|CapInh|CapAmb")
DEFAULT, ALL_HERE = 0xA80425FB, (1 << 41) - 1
FORBID_MKDIR = json.dumps(
    {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28},
            {"name": "rmdir", "action": "SCMP_ACT_ERRNO", "includes": {"caps": ["CAP_CHOWN"]}},
            {"name": "symlink", "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
        ],
    }
)
MAKE_GROUP = "(mkdir /sys/fs/cgroup/pids/x || mkdir /sys/fs/cgroup/x) 2>/dev/null"
TRY_CALLS = "mkdir /a; mkdir /tmp 2>/dev/null; rmdir /var/empty; ln -s a /b && echo linked"


def allowed(seen: Seen) -> int:
    """Return the bounding set; the permitted one is the same, nothing is inherited."""
    sets = {name: int(value, 16) for name, value in (line.split(":") for line in seen.lines)}
    assert sets["CapPrm"] == sets["CapBnd"]
    assert sets["CapInh"] == sets["CapAmb"] == 0
    return sets["CapBnd"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ({}, DEFAULT),
        ({"CapAdd": ["NET_ADMIN"]}, DEFAULT | 1 << 12),
        ({"CapAdd": ["cap_net_admin"], "CapDrop": ["Chown", "CAP_KILL"]}, DEFAULT & ~33 | 1 << 12),
        ({"CapDrop": ["all"]}, 0),
        ({"CapDrop": ["ALL"], "CapAdd": ["CAP_KILL"]}, 1 << 5),
    ],
)
def test_capabilities_are_those_that_are_asked_for(
    daemon: Daemon, host: dict[str, Any], expected: int
) -> None:
    assert allowed(run(daemon, CAPS, **host)) == expected


@pytest.mark.parametrize(
    ("host", "missing"),
    [
        ({"Privileged": True, "CapDrop": ["ALL"]}, 0),
        ({"CapAdd": ["ALL"]}, 0),
        ({"CapAdd": ["all"], "CapDrop": ["SYS_ADMIN"]}, 1 << 21),
    ],
)
def test_all_is_what_this_machine_has(daemon: Daemon, host: dict[str, Any], missing: int) -> None:
    with open("/proc/self/status", encoding="ascii") as file:
        ours = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd"))
    assert allowed(run(daemon, CAPS, **host)) == ours & ~missing


#: Fields of the request; a script; what it writes.
FLAGS: list[tuple[dict[str, Any], str, str]] = [
    # --security-opt
    ({}, STATUS.format("NoNewPrivs|Seccomp:"), "NoNewPrivs:0\nSeccomp:2\n"),
    ({"SecurityOpt": ["no-new-privileges"]}, STATUS.format("NoNewPrivs"), "NoNewPrivs:1\n"),
    ({"SecurityOpt": ["no-new-privileges:true"]}, STATUS.format("NoNewPrivs"), "NoNewPrivs:1\n"),
    ({"SecurityOpt": ["no-new-privileges=false"]}, STATUS.format("NoNewPrivs"), "NoNewPrivs:0\n"),
    ({"SecurityOpt": ["seccomp:unconfined"]}, STATUS.format("Seccomp:"), "Seccomp:0\n"),
    ({"SecurityOpt": ["seccomp=builtin"]}, STATUS.format("Seccomp:"), "Seccomp:2\n"),
    ({"SecurityOpt": ["seccomp={}"]}, STATUS.format("Seccomp:"), "Seccomp:0\n"),
    ({"Privileged": True}, STATUS.format("Seccomp:"), "Seccomp:0\n"),
    ({"SecurityOpt": [f"seccomp={FORBID_MKDIR}"]}, f"{TRY_CALLS} 2>&1", "linked\n"),
    ({"SecurityOpt": ["writable-cgroups"]}, f"{MAKE_GROUP} && echo made", "made\n"),
    ({"SecurityOpt": ["writable-cgroups=false"]}, f"{MAKE_GROUP} || echo no", "no\n"),
    ({"SecurityOpt": ["label=disable"]}, "echo runs", "runs\n"),
    ({"SecurityOpt": ["apparmor=unconfined"]}, "echo runs", "runs\n"),
    # masked and read-only paths
    ({}, "cat /proc/keys; ls /sys/firmware; ls /proc/acpi 2>/dev/null; echo .", ".\n"),
    ({}, "echo 1 >/proc/sys/kernel/domainname || echo no", "no\n"),
    ({"MaskedPaths": [], "ReadonlyPaths": []}, "grep -q perm /proc/keys && echo seen", "seen\n"),
    ({"MaskedPaths": ["/etc/passwd"]}, "wc -c </etc/passwd", "0\n"),
    ({"ReadonlyPaths": ["/home"]}, "touch /home/x || echo no", "no\n"),
    ({"Privileged": True}, "mount -t tmpfs x /home && echo done", "done\n"),
    # --read-only
    ({"ReadonlyRootfs": True}, "touch /x || touch /dev/shm/x && echo shm", "shm\n"),
    ({"ReadonlyRootfs": True, "Tmpfs": {"/run": ""}}, "touch /run/x && echo run", "run\n"),
    ({"ReadonlyRootfs": True}, "echo x >>/etc/hosts || echo no", "no\n"),
    # --user, --group-add
    ({}, "id -u; id -g; id -G", "0\n0\n0 10\n"),
    ({"User": "1000"}, "id -u; id -g; id -G; echo $HOME", "1000\n0\n0\n/\n"),
    ({"User": "1000:5"}, "id -u; id -g; id -G", "1000\n5\n5\n"),
    ({"User": ":5"}, "id -u; id -g; id -G", "0\n5\n5\n"),
    ({"User": "daemon"}, "id -un; id -g; id -G", "daemon\n1\n1\n"),
    ({"User": "daemon:root"}, "id -un; id -g; id -G", "daemon\n0\n0\n"),
    (
        {"User": "daemon:root"},
        STATUS.format("CapEff|CapPrm"),
        f"CapPrm:{0:016x}\nCapEff:{0:016x}\n",
    ),
    ({"User": "2147483647"}, "id -u", "2147483647\n"),
    ({"GroupAdd": ["007", "wheel", "5"], "User": "9"}, "id -G", "0 5 7 10\n"),
    # namespaces
    ({"UTSMode": "host"}, "hostname", "{hostname}\n"),
    ({"Hostname": "a.b", "Domainname": "c.d"}, "hostname; hostname -f", "a.b\na.b.c.d\n"),
    ({"NetworkMode": "host", "Hostname": "mine"}, "hostname", "mine\n"),
    ({"PidMode": "host"}, "readlink /proc/self/ns/pid", "{pid}\n"),
    ({"IpcMode": "host"}, "readlink /proc/self/ns/ipc", "{ipc}\n"),
    ({"IpcMode": "none"}, "ls /dev/shm 2>/dev/null || echo none", "none\n"),
    ({"CgroupnsMode": "host"}, "readlink /proc/self/ns/cgroup", "{cgroup}\n"),
    ({"CgroupnsMode": "private"}, "grep -vc ':/$' /proc/self/cgroup", "0\n"),
    # others
    ({"OomScoreAdj": 300}, "cat /proc/self/oom_score_adj", "300\n"),
    ({"Init": True}, "sed s/.docker-init.*/init/ /proc/1/comm", "docker-init\n"),
    ({"WorkingDir": "/new/folder"}, "pwd", "/new/folder\n"),
]


@pytest.mark.parametrize(("fields", "script", "output"), FLAGS)
def test_a_flag_does_what_it_says(
    daemon: Daemon, fields: dict[str, Any], script: str, output: str
) -> None:
    here = {name: os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "ipc", "cgroup")}
    expected = output.replace("{hostname}", os.uname().nodename)
    for name, value in here.items():
        expected = expected.replace(f"{{{name}}}", value)
    assert run(daemon, script, **fields).out == expected


#: Fields of the request, and the sentence.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"CapAdd": ["NOPE"]}, 'invalid CapAdd: unknown capability: "NOPE"'),
    ({"CapDrop": ["CAP_NOPE"], "Privileged": True}, 'invalid CapDrop: unknown capability: "CAP_'),
    ({"SecurityOpt": ["foo"]}, 'invalid --security-opt 1: "foo"'),
    ({"SecurityOpt": ["foo=bar"]}, 'invalid --security-opt 2: "foo=bar"'),
    ({"SecurityOpt": ["no-new-privileges:maybe"]}, 'invalid --security-opt 2: "no-new-privileges'),
    ({"SecurityOpt": ["writable-cgroups=2"]}, 'invalid --security-opt 2: "writable-cgroups=2"'),
    ({"SecurityOpt": ["label=colour:red"]}, 'bad label option "colour:red"'),
    ({"SecurityOpt": ["seccomp=/no/json"]}, "Decoding seccomp profile failed"),
    ({"SecurityOpt": ['seccomp={"defaultAction":"FOO"}']}, "string FOO is not a valid action"),
    ({"User": "4294967296"}, "uids and gids must be in range 0-2147483647"),
    ({"User": "0:-5"}, "uids and gids must be in range 0-2147483647"),
    ({"GroupAdd": ["2147483648"]}, "uids and gids must be in range 0-2147483647"),
    ({"PidMode": "odd"}, "invalid PID mode: odd"),
    ({"PidMode": "container:"}, "invalid PID mode: container:"),
    ({"PidMode": "container:nobody"}, "No such container: nobody"),
    ({"IpcMode": "odd"}, "invalid IPC mode: odd"),
    ({"IpcMode": "container:nobody"}, "No such container: nobody"),
    ({"UTSMode": "container:x"}, "invalid UTS mode: container:x"),
    ({"UTSMode": "host", "Hostname": "x"}, "conflicting options: hostname and the UTS mode"),
    (
        {"NetworkMode": "container:x", "Hostname": "x"},
        "conflicting options: hostname and the network mode",
    ),
    ({"CgroupnsMode": "odd"}, "invalid cgroup namespace mode: odd"),
    ({"OomScoreAdj": 1001}, "Invalid value 1001, range for oom score adj is [-1000, 1000]"),
    ({"Runtime": "kata"}, "unknown or invalid runtime name: kata"),
    ({"Isolation": "hyperv"}, "invalid isolation 'hyperv' on linux"),
    ({"StopSignal": "SIGNOPE"}, "invalid signal: SIGNOPE"),
    ({"Annotations": {"": "x"}}, "the empty string is not permitted as an annotation key"),
    ({"WorkingDir": "relative"}, "it needs to be an absolute path"),
    ({"Hostname": "h" * 65}, "is too long (maximum 64 bytes)"),
]


def test_what_cannot_be_is_refused_by_name_and_nothing_is_made(daemon: Daemon) -> None:
    for fields, sentence in REFUSED:
        answer = daemon.request("POST", "/containers/create", body("true", **fields))
        assert (answer.status, sentence in answer.json["message"]) == (400, True), answer.body
    assert daemon.request("GET", "/containers/json?all=1").json == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"User": "nobody-here"}, "unable to find user nobody-here: no matching entries in passwd"),
        ({"User": "root:none"}, "unable to find group none: no matching entries in group file"),
        ({"GroupAdd": ["none"]}, "unable to find group none: no matching entries in group file"),
        ({"WorkingDir": "/proc/self/fd/8"}, 'chdir to cwd ("/proc/self/fd/8")'),
        (
            {"SecurityOpt": ['seccomp={"defaultAction":"SCMP_ACT_KILL"}']},
            "its seccomp profile may refuse what that needs",
        ),
        (
            {
                "SecurityOpt": [
                    'seccomp={"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/no/agent",'
                    '"syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}]}'
                ]
            },
            "seccomp listenerPath /no/agent: no such file or directory",
        ),
    ],
)
def test_what_turns_out_at_the_start_leaves_the_container_created(
    daemon: Daemon, fields: dict[str, Any], sentence: str
) -> None:
    container = create(daemon, "true", **fields)
    answer = daemon.request("POST", f"/containers/{container}/start")
    assert (answer.status, sentence in answer.json["message"]) == (400, True), answer.body
    state = daemon.request("GET", f"/containers/{container}/json").json["State"]
    assert (state["Status"], state["Pid"]) == ("created", 0)


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("apparmor=mine", 'AppArmor is not enabled on this host. The profile "mine" is discarded.'),
        ("label=type:x_t", "SELinux is not enabled on this host. Labels discarded: type:x_t."),
    ],
)
def test_what_this_kernel_cannot_do_is_told(daemon: Daemon, option: str, sentence: str) -> None:
    answer = daemon.request("POST", "/containers/create", body("true", SecurityOpt=[option]))
    assert answer.json["Warnings"] in ([sentence], [])  # []: it can


# --- namespaces of other containers ---------------------------------------------------------------


def test_a_shareable_container_shares_its_memory_and_nobody_else_does(daemon: Daemon) -> None:
    with (
        started(daemon, "echo hi >/dev/shm/mine; sleep 1000", IpcMode="shareable") as donor,
        started(daemon, "sleep 1000") as other,
    ):
        eventually(lambda: execute(daemon, donor, "cat /dev/shm/mine").out == "hi\n")
        with started(daemon, "sleep 1000", IpcMode=f"container:{donor}") as user:
            seen = execute(daemon, user, "cat /dev/shm/mine; echo too >/dev/shm/ours")
            assert seen.out == "hi\n"
            assert execute(daemon, donor, "cat /dev/shm/ours").out == "too\n"
            options = execute(daemon, user, "grep ' /dev/shm ' /proc/mounts").out
            assert "nosuid,nodev,noexec" in options
            third = run(daemon, "cat /dev/shm/mine", IpcMode=f"container:{user}")
            assert third.out == "hi\n"
        for mode in (other, run_id(daemon, IpcMode="none")):
            refused = body("true", IpcMode=f"container:{mode}")
            answer = daemon.request("POST", "/containers/create", refused)
            assert answer.status == 400
            assert "non-shareable IPC (hint: use IpcMode:shareable" in answer.json["message"]
        own = {"IpcMode": f"container:{donor}", "Tmpfs": {"/dev/shm": ""}}
        assert run(daemon, "ls /dev/shm", **own).out == ""


def run_id(daemon: Daemon, **fields: Any) -> str:
    """Return the id of a container that was made and does not run."""
    return create(daemon, "true", **fields)


def test_shared_memory_that_was_replaced_is_not_given_to_others(daemon: Daemon) -> None:
    hide = "umount /dev/shm && rmdir /dev/shm && ln -s /proc /dev/shm; echo ready; sleep 1000"
    fields = {"IpcMode": "shareable", "Privileged": True}
    with started(daemon, hide, **fields) as donor:
        eventually(lambda: execute(daemon, donor, "test -L /dev/shm").code == 0)
        container = create(daemon, "ls /dev/shm", IpcMode=f"container:{donor}")
        answer = daemon.request("POST", f"/containers/{container}/start")
        assert answer.status == 400
        assert "cannot share /dev/shm of the other container" in answer.json["message"]
        execute(daemon, donor, "rm /dev/shm; mkdir /dev/shm; mount --bind /proc /dev/shm")
        answer = daemon.request("POST", f"/containers/{container}/start")
        assert answer.status == 400
        assert "no shared memory of its own" in answer.json["message"]


def test_processes_of_another_container_are_seen_until_it_ends(daemon: Daemon) -> None:
    with started(daemon, "sleep 1234", name="first") as first:
        assert "sleep 1234" in run(daemon, "ps", PidMode="container:first").out
        waiting = create(daemon, "true", PidMode=f"container:{first}")
        assert daemon.request("POST", f"/containers/{first}/stop?t=0").status == 204
        answer = daemon.request("POST", f"/containers/{waiting}/start")
        assert answer.status == 409
        assert "cannot join pid namespace of a non running container" in answer.json["message"]


@pytest.mark.parametrize("kind", ["PidMode", "IpcMode", "NetworkMode"])
def test_nobody_can_share_with_himself(daemon: Daemon, kind: str) -> None:
    fields = {kind: "container:myself"}
    answer = daemon.request("POST", "/containers/create?name=myself", body("true", **fields))
    assert answer.status == 400
    assert answer.json["message"] == "No such container: myself"


# --- exec -----------------------------------------------------------------------------------------


def test_an_exec_is_confined_as_its_container_unless_it_asks_for_more(daemon: Daemon) -> None:
    options = {"CapDrop": ["ALL"], "SecurityOpt": ["no-new-privileges"]}
    script = STATUS.format("NoNewPrivs|CapBnd|CapEff|Seccomp:")
    with open("/proc/self/status", encoding="ascii") as file:
        ours = next(line.split()[1] for line in file if line.startswith("CapBnd"))
    with started(daemon, "sleep 1000", **options) as container:
        none = f"{0:016x}"
        usual = f"CapEff:{none}\nCapBnd:{none}\nNoNewPrivs:1\nSeccomp:2\n"
        assert execute(daemon, container, script).out == usual
        more = execute(daemon, container, script, Privileged=True).out
        assert more == f"CapEff:{ours}\nCapBnd:{ours}\nNoNewPrivs:1\nSeccomp:2\n"
        as_user = execute(daemon, container, "id -u; id -G; pwd", User="7:8", WorkingDir="/tmp")
        assert as_user.out == "7\n8\n/tmp\n"
        assert execute(daemon, container, "id", User="nobody-here").code == 126
        assert execute(daemon, container, "id", User="99999999999").code == 126


# --- the options of the daemon --------------------------------------------------------------------


def test_the_daemon_says_what_holds_for_those_that_say_nothing(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(FORBID_MKDIR)
    options = ["--seccomp-profile", str(profile), "--default-ipc-mode", "shareable"]
    options += ["--no-new-privileges", "--default-cgroupns-mode", "host", "--init"]
    status = STATUS.format("NoNewPrivs|Seccomp:")
    with running(*options) as daemon:
        daemon.import_image()
        info = daemon.request("GET", "/info").json["SecurityOptions"]
        assert {"name=seccomp,profile=custom", "name=no-new-privileges"} <= set(info)
        seen = run(daemon, f"{status}; mkdir /x 2>/dev/null || cat /proc/1/comm")
        assert seen.out == "NoNewPrivs:1\nSeccomp:2\ndocker-init\n"
        own = {"Init": False, "SecurityOpt": ["no-new-privileges=false", "seccomp=builtin"]}
        assert (
            run(daemon, f"{status}; mkdir /x && cat /proc/1/comm", **own).lines[0] == "NoNewPrivs:0"
        )
        with started(daemon, "sleep 1000") as container:
            host = daemon.request("GET", f"/containers/{container}/json").json["HostConfig"]
            assert (host["IpcMode"], host["CgroupnsMode"]) == ("shareable", "host")
            assert run(daemon, "true", IpcMode=f"container:{container}").code == 0
