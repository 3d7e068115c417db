"""Our command line and docker's, side by side on one daemon: same output, same exit status.

Each scenario is a script of command lines. It runs with one program, the daemon is tidied up, and
it runs with the other; what differs by nature (ids, names, ages, the program's name) is levelled.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.daemon import Daemon

pytestmark = [pytest.mark.privileged, pytest.mark.compat, pytest.mark.slow]

SCENARIOS = {
    "run": """
        run --rm busybox echo hello
        run --rm busybox sh -c 'echo out; echo err >&2; exit 7'
        run --name x busybox nope
        run --name y busybox /etc/passwd
        run --rm -e A=1 -e B --env-file /nonexistent busybox env
        run --rm -e A=1 -w /tmp -u 1 -h host busybox sh -c 'echo $A; pwd; id -u; hostname'
        run --rm --entrypoint /bin/echo busybox from the entrypoint
        run --rm --read-only busybox touch /file
        run --rm -v /nonexistent-source:relative busybox true
        run --rm --mount type=tmpfs,dst=/t busybox sh -c 'mount | grep -c " /t "'
        run --restart=always --rm busybox true
        run -d -a stdout busybox true
        run --pull=never nosuchimage:1 true
        run Upper true
        run busybox
        run --memory=lots busybox true
        run -p 70000:80 busybox true
        run --network=nosuchnetwork --name z busybox true
    """,
    "life": """
        run -d --name life busybox sleep 1000
        ps --format '{{.Names}} {{.Image}} {{.State}} {{.Command}}'
        ps -q --no-trunc
        ps -a --filter name=life --format 'table {{.Names}}\t{{.Image}}'
        run --name life busybox true
        pause life
        pause life
        exec life true
        unpause life
        unpause life
        rename life lives
        rename lives lives
        inspect -f '{{.Name}} {{.State.Status}} {{.Config.Image}} {{.HostConfig.NetworkMode}}' lives
        exec lives echo inside
        exec -e X=1 -w /tmp lives sh -c 'echo $X; pwd'
        exec lives nope
        exec -u nosuchuser lives true
        top lives -o pid,args
        kill -s NOPE lives
        stop -t 0 lives
        exec lives true
        wait lives
        start lives
        restart -t 0 lives
        port lives
        port lives 80
        update --memory 64m --memory-swap 64m lives
        inspect -f '{{.HostConfig.Memory}}' lives
        update lives
        rm lives
        rm -f lives
        rm lives
        rm -f lives
    """,
    "several": """
        create --name a busybox true
        create --name b busybox sh -c 'exit 3'
        start a b c
        wait a b c
        stop a b c
        kill a
        rm a b c
        inspect a b
    """,
    "logs": """
        run --name talker busybox sh -c 'echo one; echo two >&2; sleep 1; echo three'
        logs talker
        logs -n 1 talker
        logs --tail 0 talker
        logs --since 1h talker
        logs --since 0 --until 10 talker
        logs nosuch
        start -a talker
        attach talker
        rm talker
    """,
    "files": """
        run --name files busybox sh -c 'echo kept > /root/file; rm /etc/group; mkdir /new'
        diff files
        cp files:/nosuch /tmp
        cp files:/root/file /nonexistent/folder/
        cp /nonexistent files:/root
        cp files:/root files:/tmp
        commit -m note -a me -c 'ENV A=1' files kept:1
        inspect -f '{{.Config.Env}} {{.Comment}} {{.Author}}' kept:1
        run --rm kept:1 cat /root/file
        history --format '{{.CreatedBy}}|{{.Comment}}' kept:1
        tag kept:1 kept:2
        tag nosuch kept:3
        tag kept:1 Bad
        images kept --format '{{.Repository}}:{{.Tag}}'
        rmi kept:1
        rmi nosuch
        rmi -f nosuch
        rmi kept:2
        rm files
    """,
    "templates": """
        create --name t -l a=1 -l b=2 -p 8080:80 busybox true
        inspect -f '{{json .Config.Labels}}' t
        inspect -f '{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}' t
        inspect -f '{{index .Config.Labels "a"}}{{index .Config.Labels "nosuch"}}' t
        inspect -f '{{.HostConfig.PortBindings}}' t
        inspect -f '{{.State.Pid}} {{.State.Running}} {{.State.ExitCode}}' t
        inspect -f '{{if .State.Running}}up{{else}}down{{end}}' t
        inspect -f '{{with .Config}}{{.Cmd}} {{len .Env}}{{end}}' t
        inspect -f '{{.Config.Entrypoint}} {{.State.Health}}' t
        inspect -f '{{join .Config.Cmd ","}} {{.Name | upper}} {{printf "%q" .Name}}' t
        inspect -f '{{.NoSuchField}}' t
        inspect -f '{{.State.NoSuchField}}' t
        inspect -f '{{nosuchfunction}}' t
        inspect -f '{{json .Config.Cmd' t
        ps -a --format '{{.NoSuchColumn}}'
        ps -a --format 'table {{.Names}}|{{.Label "a"}}'
        rm t
    """,
    "networks": """
        network create --config-only --subnet 10.71.0.0/24 --gateway 10.71.0.9 -o a=b --label \
            x=y plan
        network create --config-only --internal plan2
        network create --config-from plan --label z=1 planned
        network create --config-from nosuch planned
        network create --config-from plan planned
        network create --config-from plan again
        network inspect -f '{{.Driver}} {{.ConfigOnly}} {{json .IPAM}} {{.Options}}' plan
        network inspect -f '{{.Driver}} {{.ConfigFrom.Network}} {{json .IPAM}} {{.Labels}}' planned
        network ls --format '{{.Name}} {{.Driver}} {{.Scope}}' --filter type=custom
        network rm plan
        run --network plan busybox true
        network create -o com.docker.network.bridge.gateway_mode_ipv4=frob modes
        network create -o com.docker.network.bridge.gateway_mode_ipv4=isolated modes
        network create -o com.docker.network.bridge.gateway_mode_ipv4=routed --subnet \
            10.72.0.0/24 modes
        run -d --name mode --network modes -p 8080:80 busybox sleep 1000
        port mode
        ps --format '{{.Names}} {{.Ports}}'
        inspect -f '{{json .NetworkSettings.Ports}}' mode
        network connect --driver-opt com.docker.network.endpoint.sysctls=net.ipv4.conf.x.y=1 \
            planned mode
        network connect --driver-opt com.docker.network.endpoint.ifname=lan7 --driver-opt \
            com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1 \
            --gw-priority 9 --ip 10.71.0.7 --alias mm planned mode
        exec mode cat /proc/sys/net/ipv4/conf/lan7/log_martians
        exec mode ip route show default
        inspect -f '{{json (index .NetworkSettings.Networks "planned").DriverOpts}} {{(index \
            .NetworkSettings.Networks "planned").GwPriority}}' mode
        port mode
        network disconnect planned mode
        exec mode ip route show default
        network disconnect planned mode
        network disconnect -f planned nosuch
        network connect nosuch mode
        network connect host mode
        network rm modes
        network ls -q --no-trunc --filter dangling=false --filter name=modes
        network ls --filter dangling=true --format '{{.Name}}'
        network ls --filter dangling=maybe
        network ls --filter frob=x
        network prune -f --filter label=nosuch
        network prune -f --filter until=1h
        network prune -f --filter label!=x --filter label=x=y
        network prune -f --filter frob=x
        network prune -f
        network ls --filter type=custom --format '{{.Name}}'
        rm -f mode
        network prune -f
        network rm plan nosuch
        network rm bridge
        network create 'a b'
        network inspect -f '{{.Name}}' 'a b'
        network rm 'a b'
        network create -d overlay over
        network create --scope swarm over
        network create --ingress over
        network create --subnet 10.73.0.0/24 --subnet 10.74.0.0/24 two
        network create --subnet 10.73.0.1/24 off
        network create --gateway 10.73.0.1 off
        network create --subnet 10.73.0.0/24 --aux-address a=10.99.0.1 off
    """,
    "system": """
        network ls --format '{{.Name}} {{.Driver}} {{.Scope}}'
        network inspect nosuch
        network inspect -f '{{.Name}} {{.Driver}}' bridge
        image inspect nosuch
        container inspect nosuch
        inspect --type image nosuch
        inspect --type nosuch x
        container prune -f
        image prune -f
        events --since 1 --until 2
        info --format '{{.OSType}} {{.ContainersRunning}}'
        version --format '{{.Server.Os}}'
        container nosuch
        nosuch
    """,
}


class Programs:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        docker = shutil.which("docker")
        assert docker
        self.paths = {"sampan": f"{sys.prefix}/bin/sampan", "docker": docker}

    def transcript(self, program: str, script: str) -> list[tuple[str, int, str, str]]:
        """Run a script; return each line with status, standard output and error, levelled."""
        steps = []
        for line in filter(None, map(str.strip, script.splitlines())):
            result = subprocess.run(
                [self.paths[program], *shlex.split(line)],
                env=self._daemon.environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            output = level(result.stdout)
            if line.startswith("diff"):
                output = "\n".join(sorted(output.splitlines()))  # the daemon has no order
            steps.append((line, result.returncode, output, level(result.stderr)))
        return steps


def level(text: str) -> str:
    """Make equal what may differ."""
    text = re.sub(r"\b[0-9a-f]{64}\b", "<ID>", text)
    text = re.sub(r"\b[0-9a-f]{12}\b", "<id>", text)
    text = re.sub(r"\b(docker|sampan)(:| )", r"program\2", text)
    text = re.sub(r"\b(docker|sampan)(?=')", "program", text)
    # docker changed between these spellings from command to command
    text = text.replace("See 'program", "Run 'program")
    text = re.sub(r"^Usage:  .*$", "Usage", text, flags=re.MULTILINE)
    text = re.sub(r"^\d+ +(?=\w+ )", "<pid> ", text, flags=re.MULTILINE)
    text = re.sub(r"in type \S+", "in type <type>", text)
    return "\n".join(line.rstrip() for line in text.splitlines())


@pytest.fixture
def programs(daemon: Daemon) -> Iterator[Programs]:
    yield Programs(daemon)
    daemon.remove_containers()


@pytest.mark.parametrize("name", SCENARIOS)
def test_both_say_the_same(name: str, programs: Programs, daemon: Daemon) -> None:
    ours = programs.transcript("sampan", SCENARIOS[name])
    daemon.remove_containers()
    theirs = programs.transcript("docker", SCENARIOS[name])
    different = [pair for pair in zip(ours, theirs, strict=True) if not same(*pair)]
    for ours_, theirs_ in different:
        print(ours_, theirs_, sep="\n")
    assert not different


def same(ours: tuple[str, int, str, str], theirs: tuple[str, int, str, str]) -> bool:
    """Compare status and output; the words of errors change from docker to docker."""
    if os.environ.get("SAMPAN_TEST_WORDS"):
        return ours == theirs
    return ours[:3] == theirs[:3] and bool(ours[3]) == bool(theirs[3])


@pytest.mark.parametrize("source", ["f", "d", "d/", "d/.", "ld", "ld/", "lf", "broken", "nope"])
@pytest.mark.parametrize("link", [False, True], ids=["plain", "follow"])
def test_cp_makes_the_same_trees(
    link: bool, source: str, programs: Programs, daemon: Daemon, tmp_path: Path
) -> None:
    """All kinds of sources by all kinds of destinations, out of a container."""
    prepare = (
        "mkdir -p /src/d/sub; echo f1 > /src/f; echo f2 > /src/d/x; ln /src/d/x /src/d/hard;"
        "ln -s d /src/ld; ln -s f /src/lf; ln -s /nope /src/broken; chmod 751 /src/d/sub"
    )
    subprocess.run(
        [programs.paths["docker"], "run", "--name", "cp", "busybox", "sh", "-c", prepare],
        env=daemon.environment,
        check=True,
    )
    targets = ["new", "new/", "ed", "ed/.", "ef", "led", "lef", "no/x", "."]
    for target in targets:
        found = {}
        for program, path in programs.paths.items():
            place = tmp_path / program
            (place / "ed").mkdir(parents=True)
            (place / "ef").write_text("old")
            (place / "led").symlink_to("ed")
            (place / "lef").symlink_to("ef")
            result = subprocess.run(
                [path, "cp", *(["-L"] if link else []), f"cp:/src/{source}", target],
                cwd=place,
                env=daemon.environment,
                capture_output=True,
                check=False,
            )
            found[program] = (result.returncode, tree(place))
            shutil.rmtree(place)
        assert found["sampan"] == found["docker"], f"{source} to {target}"


def tree(folder: Path) -> list[tuple[str, int, str]]:
    """Return path, mode and content of everything below a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        content = ""
        if path.is_symlink():
            content = os.readlink(path)
        elif path.is_file():
            content = path.read_text()
        found.append((str(path.relative_to(folder)), path.lstat().st_mode, content))
    return found
