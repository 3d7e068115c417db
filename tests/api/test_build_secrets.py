"""Secrets and SSH agents of clients in steps of builds: who sees them, and where they never are."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.exceptions import GRPCError, StreamTerminatedError

from tests import buildkit
from tests.buildkit import Folders, Result
from tests.daemon import Daemon, running
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]


@pytest.fixture
def content() -> bytes:
    """A secret that is nowhere else."""
    return secrets.token_hex(20).encode()


@pytest.fixture
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Run an ssh-agent with a key; give the path of its socket and the key's fingerprint."""
    folder = tmp_path_factory.mktemp("agent")
    key, path = str(folder / "key"), str(folder / "agent")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        environment = {**os.environ, "SSH_AUTH_SOCK": path}

        def answers() -> bool:
            assert process.poll() is None
            listed = subprocess.run(["ssh-add", "-l"], env=environment, capture_output=True)
            return listed.returncode != 2  # it cannot be reached

        eventually(answers)
        subprocess.run(["ssh-add", "-q", key], check=True, env=environment)
        listed = subprocess.run(["ssh-add", "-l"], check=True, env=environment, capture_output=True)
        yield path, listed.stdout.split()[1].decode()
    finally:
        process.terminate()
        process.wait()


def build(daemon: Daemon, folder: Path, dockerfile: str, *args: Any, **served: Any) -> Result:
    (folder / "Dockerfile").write_text(dockerfile)
    folders = Folders({"context": folder, "dockerfile": folder}, **served)
    return asyncio.run(buildkit.build(daemon.socket, folders, *args))


def holders(folder: Path, *needles: bytes) -> list[str]:
    """Return the files below a folder that hold one of these bytes."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            found += [str(path) for needle in needles if needle in data]
    return found


def test_a_secret_is_a_file_in_memory_and_no_disk_ever_has_it(
    clean: Daemon, tmp_path: Path, content: bytes
) -> None:
    recipe = (
        "FROM busybox\n"
        "RUN --mount=type=secret,id=token,env=TOKEN,target=/etc/token,mode=0440,uid=5,gid=6"
        " --mount=type=secret,id=other"
        " stat -c '%a %u %g' /etc/token && grep -w /etc/token /proc/mounts"
        " && stat -c '%a %u %g' /run/secrets/other"
        ' && wc -c </run/secrets/other && test "$TOKEN" = "$(cat /etc/token)"'
        " && ! touch /etc/token && sha256sum /etc/token && echo x >/made\n"
    )
    made = build(
        clean, tmp_path, recipe, "made", secrets={"token": content, "other": content + b"\n"}
    )
    lines = made.logs.decode().splitlines()
    assert lines[0] == "440 5 6"
    assert re.match(r"lent /etc/token tmpfs ro,nosuid,nodev,noexec\b", lines[1])
    assert lines[2:4] == ["400 0 0", "41"]
    image = clean.request("GET", "/images/made/json").json
    history = clean.request("GET", "/images/made/history").body
    for told in (made.logs, str(made).encode(), str(image).encode(), history, clean.log.encode()):
        assert content not in told
    assert holders(clean.folder, content) == []
    assert b"token" not in b"".join(layer_names(clean, "made"))


def layer_names(daemon: Daemon, image: str) -> list[bytes]:
    """Return the names of all files in the last layer of an image."""
    [graph] = [daemon.request("GET", f"/images/{image}/json").json["GraphDriver"]["Data"]]
    upper = Path(graph["UpperDir"])
    return [os.fsencode(path.relative_to(upper)) for path in upper.rglob("*")]


def tools(folder: Path) -> str:
    """Put ssh-add with its libraries into a context; return the instruction that installs it."""
    program = "/usr/bin/ssh-add"
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    for path in [program, *re.findall(r"(/\S+) \(0x", listed)]:
        place = folder / "tools" / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        place.chmod(0o755)
    return "COPY tools /"


def test_a_step_reaches_the_agent_of_its_client(
    clean: Daemon, tmp_path: Path, agent: tuple[str, str]
) -> None:
    path, fingerprint = agent
    recipe = (
        f"FROM busybox\n{tools(tmp_path)}\n"
        "RUN --mount=type=ssh,required ssh-add -l && echo $SSH_AUTH_SOCK"
        " && stat -c '%a %u %F' $SSH_AUTH_SOCK && for n in 1 2 3; do ssh-add -L & done; wait\n"
        'RUN ! ssh-add -l 2>&1; test ! -e /run/buildkit && test -z "$SSH_AUTH_SOCK"\n'
        "RUN --mount=type=ssh,id=two,mode=0666,uid=3,target=/agent"
        " --mount=type=ssh,id=default SSH_AUTH_SOCK=/agent ssh-add -l; echo $SSH_AUTH_SOCK;"
        " stat -c '%a %u' /agent; ls /run/buildkit"
    )
    made = build(clean, tmp_path, recipe, "made", agents={"default": path, "two": path})
    lines = made.logs.decode().splitlines()
    assert fingerprint in lines[0]
    assert lines[1:3] == ["/run/buildkit/ssh_agent.0", "600 0 socket"]
    assert len([line for line in lines if line.startswith("ssh-ed25519")]) == 3
    assert fingerprint in lines[7]
    assert lines[8:11] == ["/agent", "666 3", "ssh_agent.1"]
    assert not [name for name in layer_names(clean, "made") if b"agent" in name]


def test_a_step_that_ends_leaves_no_way_to_the_agent(
    clean: Daemon, tmp_path: Path, agent: tuple[str, str]
) -> None:
    recipe = (
        f"FROM busybox\n{tools(tmp_path)}\n"
        "RUN --mount=type=ssh (ssh-add -l; sleep 1000) & ssh-add -l\n"
    )
    build(clean, tmp_path, recipe, "made", agents={"default": agent[0]})
    listening = [*clean.enter, "cat", "/proc/net/unix"]
    eventually(
        lambda: b"/lent" not in subprocess.run(listening, capture_output=True, check=True).stdout
    )


@pytest.mark.parametrize(
    ("mount", "sentence"),
    [
        ("type=secret,id=none,required", "secret none: not found"),
        ("type=ssh,id=none,required", "unset ssh forward key none"),
        ("type=secret,id=big", "secret big: invalid secret size 512001"),
        ("type=secret,id=binary,env=NAME",
         "secret binary: cannot be the variable NAME: it is not text"),
        ("type=secret,id=a,env=A=B", "secret a: invalid variable name 'A=B'"),
        ("type=secret,id=a,target=/", 'invalid mount target "/"'),
        ("type=secret,id=a,target=../..", 'invalid mount target "/"'),
        ("type=secret,id=a,target=/proc/self/x", "cannot be mounted because it is inside /proc"),
        ("type=secret,id=a,target=/etc", 'error mounting "/secret" to rootfs at "/etc"'),
        ("type=ssh,target=/proc/x", "cannot be mounted because it is inside /proc"),
        ("type=secret,id=a --mount=type=secret,id=b,target=/run/secrets/a",
         "Duplicate mount point: /run/secrets/a"),
        (" --mount=".join(f"type=secret,id=a,target=/{n}" for n in range(25)),
         "a step can have 24 secrets and SSH agents at most"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
        ("type=ssh,source=b", "ssh does not support source"),
        ("type=ssh,id=\u00e9", "the id of an SSH agent has letters beyond ASCII"),
    ],
)  # fmt: skip
def test_what_cannot_be_lent_is_said_and_nothing_is_built(
    clean: Daemon, tmp_path: Path, mount: str, sentence: str
) -> None:
    known = {"a": b"x", "b": b"x", "big": bytes(512_001), "binary": b"\xff\0"}
    recipe = f"FROM busybox\nRUN --mount={mount} true"
    with pytest.raises(GRPCError, match=re.escape(sentence)):
        build(clean, tmp_path, recipe, "made", secrets=known, agents={"default": ""})
    assert clean.request("GET", "/images/made/json").status == 404


def test_hostile_names_lead_nowhere(clean: Daemon, tmp_path: Path, content: bytes) -> None:
    """Ids are only asked of the client, and targets are resolved in the root of the step."""
    unique = f"sampan-{secrets.token_hex(8)}"
    ids = ["../../../../etc/shadow", "/etc/passwd", "a b", "\u00e9", "x" * 300]
    mounts = " ".join(f'--mount="type=secret,id={name},target=/s{n}"' for n, name in enumerate(ids))
    recipe = (
        "FROM busybox\n"
        "RUN ln -s / /up && ln -s ../../../../var /out && ln -s loop /loop && mkdir -p /var\n"
        f"RUN {mounts} --mount=type=secret,id=a,target=/up/../../out/{unique}/here cat /s? "
        f"&& cat /out/{unique}/here\n"
    )
    known = {name: b"%d." % n for n, name in enumerate(ids)} | {"a": content}
    made = build(clean, tmp_path, recipe, "made", secrets=known)
    assert made.logs.startswith(b"0.1.2.3.4." + content)
    assert not Path("/var", unique).exists()
    with pytest.raises(GRPCError, match="too many levels of symbolic links"):
        build(clean, tmp_path, "FROM made\nRUN --mount=type=secret,id=a,target=/loop/x true",
              secrets=known)  # fmt: skip


def test_a_secret_that_is_not_there_is_no_file_and_nothing_depends_on_its_content(
    clean: Daemon, tmp_path: Path
) -> None:
    recipe = (
        "FROM busybox\n"
        "RUN --mount=type=secret,id=a --mount=type=ssh"
        " --mount=type=secret,id=b,env=B date +%s%N >/time;"
        " ls /run/secrets /run/buildkit; echo ${B+set}-$B"
    )
    first = build(clean, tmp_path, recipe, "made")
    second = build(clean, tmp_path, recipe, "made", secrets={"a": b"1"})
    third = build(clean, tmp_path, recipe, "made", secrets={"a": b"2"})
    assert b"ls: /run/secrets: No such file or directory" in first.logs
    assert b"set-\n" in first.logs
    assert [len(one.cached) for one in (first, second, third)] == [0, 1, 1]
    other = build(clean, tmp_path, recipe.replace("id=a", "id=c"), "made", secrets={"c": b"2"})
    assert b"/run/secrets:\nc\n" in other.logs


def test_a_secret_belongs_to_one_step_alone(clean: Daemon, tmp_path: Path, content: bytes) -> None:
    recipe = (
        "FROM busybox\nRUN --mount=type=secret,id=a,env=A cp /proc/self/environ /dev/null\n"
        "RUN ls /run; env; ls / | grep -v proc; test ! -e /run/secrets\n"
    )
    made = build(clean, tmp_path, recipe, "made", secrets={"a": content})
    assert content not in made.logs
    assert holders(clean.folder, content) == []


def test_a_daemon_that_is_killed_in_the_middle_leaves_no_secret(
    tmp_path: Path, content: bytes
) -> None:
    recipe = (
        "FROM busybox\nRUN --mount=type=secret,id=a,env=A --mount=type=ssh"
        " test -s /run/secrets/a && echo there && sleep 1000\n"
    )
    (tmp_path / "Dockerfile").write_text(recipe)
    folders = Folders(
        {"context": tmp_path, "dockerfile": tmp_path},
        secrets={"a": content},
        agents={"default": ""},
    )

    async def until_it_runs(daemon: Daemon) -> None:
        building = asyncio.ensure_future(buildkit.build(daemon.socket, folders))
        query = '/containers/json?filters={"label":["org.sampan.build"]}'
        while not await asyncio.to_thread(lambda: daemon.request("GET", query).json):
            assert not building.done()
        daemon.kill()
        with pytest.raises((OSError, GRPCError, StreamTerminatedError)):
            await building

    with running() as daemon:
        daemon.import_image()
        asyncio.run(until_it_runs(daemon))
        assert holders(daemon.folder, content) == []
        daemon.start()
        eventually(lambda: daemon.request("GET", "/containers/json?all=1").json == [])
        assert holders(daemon.folder, content) == []
        assert b"lent" not in Path("/proc/mounts").read_bytes()


def test_a_client_that_leaves_takes_its_loans_along(clean: Daemon, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\n"
        "RUN --mount=type=secret,id=a --mount=type=ssh --mount=target=/c,rw sleep 1000"
    )
    served = {"context": tmp_path, "dockerfile": tmp_path}
    folders = Folders(served, secrets={"a": b"x"}, agents={"default": ""})
    query = '/containers/json?filters={"label":["org.sampan.build"]}'
    before = active(clean)

    async def leave() -> None:
        building = asyncio.ensure_future(buildkit.build(clean.socket, folders))
        while not await asyncio.to_thread(lambda: clean.request("GET", query).json):
            assert not building.done()
        assert len(active(clean) - before) == 2
        building.cancel()
        await asyncio.wait([building])

    asyncio.run(leave())
    eventually(lambda: clean.request("GET", f"{query}&all=1").json == [])
    eventually(lambda: active(clean) <= before)  # what earlier tests have left goes meanwhile
    command = [*clean.enter, "cat", "/proc/net/unix"]
    eventually(lambda: b"/lent" not in subprocess.check_output(command))
    eventually(lambda: not clean.request("GET", "/system/check").json["Problems"])


def active(daemon: Daemon) -> set[str]:
    """Return the snapshots of containers and copies."""
    return {
        one.name for one in daemon.snapshots.iterdir() if re.fullmatch("[0-9a-f]{64}", one.name)
    }


def test_owners_are_those_of_the_user_namespace_of_a_step(tmp_path: Path, content: bytes) -> None:
    recipe = (
        "FROM busybox\nRUN --mount=target=/c,rw echo >>/c/Dockerfile && rm /c/subid\nUSER 5:6\n"
        "RUN --mount=type=secret,id=a,uid=5,gid=6 --mount=type=ssh,uid=5 cat /run/secrets/a"
        " && stat -c '%u %g %a' /run/secrets/a $SSH_AUTH_SOCK && cut -c1-30 /proc/self/uid_map\n"
    )
    file = tmp_path / "subid"
    file.write_text("daemon:700000000:65536\n")
    script = 'mount --bind "$0" /etc/subuid; mount --bind "$0" /etc/subgid; exec "$@"'
    within = ["unshare", "--mount", "sh", "-ec", script, str(file)]
    with running("--userns-remap=daemon", within=within) as daemon:
        daemon.import_image()
        made = build(daemon, tmp_path, recipe, secrets={"a": content}, agents={"default": ""})
        lines = made.logs.decode().removeprefix(content.decode()).splitlines()
        assert lines[:2] == ["5 6 400", "5 0 600"]
        assert lines[2].split()[1] != "0"
        wrong = "FROM busybox\nRUN --mount=type=secret,id=a,uid=70000 true"
        with pytest.raises(GRPCError, match="id 70000 is not in the user namespace"):
            build(daemon, tmp_path, wrong, secrets={"a": content})


def sampan(daemon: Daemon, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [daemon.programs["sampan"], "build", *words],
        env={**daemon.environment, **environment},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def test_our_command_line_lends_files_variables_agents_and_keys(
    clean: Daemon, tmp_path: Path, content: bytes, agent: tuple[str, str]
) -> None:
    path, fingerprint = agent
    key, secret, context = tmp_path / "key", tmp_path / "secret", tmp_path / "context"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    key.chmod(0o644)
    secret.write_bytes(content)
    context.mkdir()
    (context / "Dockerfile").write_text(
        f"FROM busybox\n{tools(context)}\n"
        "RUN --mount=type=secret,id=a --mount=type=secret,id=b,env=B --mount=type=secret,id=C"
        " sha256sum /run/secrets/a && echo b=${#B} c=$(wc -c </run/secrets/C)\n"
        "RUN --mount=type=ssh,required ssh-add -l && ! ssh-add -D 2>&1 && ssh-add -l\n"
        "RUN --mount=type=ssh,id=keys,required ssh-add -l | wc -l\n"
    )
    lent = ["--secret", f"id=a,src={secret}", "--secret", "id=b,env=SECRET", "--secret", "id=C"]
    agents = ["--ssh", "default", "--ssh", f"keys={key},{key.parent}/agent0/key"]
    other = tmp_path / "agent0"
    other.mkdir()
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-N", "", "-f", other / "key"], check=True)
    done = sampan(
        *(clean, *lent, *agents, "-t", "made", str(context)),
        SECRET=content.decode(),
        C="xyz",
        SSH_AUTH_SOCK=path,
    )
    assert done.returncode == 0, done.stderr
    said = re.sub(r"(?m)^#\d+ \d+\.\d+ ", "", done.stderr)
    assert f"{hashlib.sha256(content).hexdigest()}  /run/secrets/a\nb=40 c=3\n" in said
    assert said.count(fingerprint) == 2
    assert "\n2\n" in said
    assert content.decode() not in done.stdout + done.stderr
    assert holders(clean.folder, content) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--secret src=/etc/passwd", "secret missing ID"),
        ("--secret id=a,src=/none", "failed to stat /none: no such file or directory"),
        ("--secret id=a,type=other", 'unsupported secret type "other"'),
        ("--secret id=a,what=b", "unexpected key 'what' in 'what=b'"),
        ("--secret id", "invalid field 'id' must be a key=value pair"),
        ("--secret id=a,src=BIG", "secret a too big. max size 500KB"),
        ("--ssh default", "invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set"),
        ("--ssh a=/none", "stat /none: no such file or directory"),
        ("--ssh a=BIG", "failed to add"),
        ("--secret id=b,src=/etc/passwd", "secret a: not found"),
        ("", "secret a: not found"),
    ],
)
def test_our_command_line_says_what_it_cannot_lend(
    clean: Daemon, tmp_path: Path, words: str, sentence: str
) -> None:
    (tmp_path / "big").write_bytes(bytes(600_000))
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN --mount=type=secret,id=a,required true")
    given = words.replace("BIG", str(tmp_path / "big")).split()
    done = sampan(clean, *given, str(tmp_path), SSH_AUTH_SOCK="")
    assert done.returncode == 1
    assert sentence in done.stderr
