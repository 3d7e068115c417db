"""A hostile Dockerfile or context: its steps are containers, and its copies stay in the image.

Every row of docs/explanation/security.md names its test.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tarballs
from tests.daemon import Daemon
from tests.inside import run

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

TAR = {"Content-Type": "application/x-tar"}
CACHE = "--mount=type=cache,id=raced"
LOOK = "grep -E '^(CapBnd|CapInh|Seccomp):' /proc/self/status"


@pytest.fixture
def builder(daemon: Daemon) -> Iterator[Daemon]:
    yield daemon
    daemon.remove_containers()
    daemon.request("DELETE", "/images/hostile?force=1")
    daemon.request("POST", "/build/prune?all=1")


def build(daemon: Daemon, dockerfile: str, *members: bytes) -> tuple[str, str]:
    """Return what was said, and the error."""
    context = tarballs.archive(tarballs.file("Dockerfile", dockerfile.encode()), *members)
    answer = daemon.request("POST", "/build?t=hostile&nocache=1", context, TAR)
    messages = [json.loads(line) for line in answer.body.splitlines()]
    said = "".join(message.get("stream", "") for message in messages)
    errors = [message.get("error") or message.get("message") for message in messages]
    return said, next(filter(None, errors), "")


def test_cve_2024_23653_a_step_of_a_build_is_confined_like_a_container(builder: Daemon) -> None:
    said, error = build(builder, f"FROM busybox\nRUN {LOOK}\n")
    assert not error
    for line in run(builder, LOOK).lines:
        assert line in said
    _, error = build(builder, "FROM busybox\nRUN --security=insecure mount -t tmpfs x /home\n")
    assert "security.insecure is not allowed" in error


@pytest.mark.parametrize("number", [3, 7])
def test_cve_2024_21626_no_descriptor_is_the_working_directory_of_a_step(
    builder: Daemon, number: int
) -> None:
    said, error = build(builder, f"FROM busybox\nWORKDIR /proc/self/fd/{number}\nRUN ls ../../..\n")
    assert error, said


@pytest.mark.parametrize(
    "instruction",
    [
        "COPY evil /out/copied",
        "COPY evil /up/copied",
        "ADD evil.tar /out/",
        "WORKDIR /out/made",
        "COPY evil ../../../../../../../..{outside}/copied",
    ],
)
def test_cve_2018_15664_no_instruction_writes_through_a_link(
    builder: Daemon, instruction: str, tmp_path: Path
) -> None:
    evil = tarballs.file("evil", b"evil", 0o777)
    links = f"ln -s /../../..{tmp_path} /out && ln -s ../../../../../../../..{tmp_path} /up"
    dockerfile = f"FROM busybox\nRUN {links}\n{instruction.replace('{outside}', str(tmp_path))}\n"
    build(builder, dockerfile, evil, tarballs.file("evil.tar", tarballs.archive(evil)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../../../../../etc/passwd", "/proc/1"])
def test_cve_2024_1753_a_link_of_the_context_shows_no_file_of_the_host(
    builder: Daemon, target: str
) -> None:
    dockerfile = "FROM busybox\nCOPY link/ /got/\nRUN cat /got/* /got /got/environ\n"
    said, error = build(builder, dockerfile, tarballs.symlink("link", target))
    assert "sampan:" not in said + error  # a user of the host
    assert "root:x:0:0:root:/root:/bin/bash" not in said


# --- mounts of RUN -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source", ["link", "link/", "folder/../link", "../../../../etc", "/../etc/passwd", "self"]
)
def test_cve_2024_1753_a_source_of_a_mount_stays_in_the_context(
    builder: Daemon, source: str
) -> None:
    """Links of the context led buildah to the host's root, which was then writable."""
    said, error = build(
        builder,
        f"FROM busybox\nRUN --mount=type=bind,source={source},target=/got ls -a /got; cat /got\n",
        tarballs.symlink("link", "../../../../../../../../etc/passwd"),
        tarballs.symlink("self", "/proc/self/root"),
        tarballs.folder("folder"),
    )
    assert "failed to mount" in error
    assert "root:" not in said


def test_cve_2024_1753_a_source_in_another_stage_stays_there(builder: Daemon) -> None:
    said, error = build(
        builder,
        "FROM busybox AS evil\nRUN ln -s / /up && ln -s ../../../../etc /out && mkdir -p /etc\n"
        "RUN echo inside >/etc/shadow\n"
        "FROM busybox\nRUN --mount=from=evil,source=/up/out/shadow,target=/got cat /got\n"
        "RUN --mount=from=evil,source=../../../../../etc/shadow,target=/got cat /got\n",
    )
    assert not error or "path concatenation escapes" in error or "cannot access path" in error
    assert "root:" not in said


@pytest.mark.parametrize(
    "option",
    ["bind-propagation=shared", "bind-propagation=rshared", "idmap", "z", "U", "upperdir=/etc",
     "volume-opt=type=none", "consistency=cached"],
)  # fmt: skip
def test_cve_2024_9407_options_of_mounts_are_a_closed_list(builder: Daemon, option: str) -> None:
    """buildah handed options of a Dockerfile to mount(2), a propagation among them."""
    _, error = build(
        builder, f"FROM busybox\nARG more={option}\nRUN --mount=type=bind,target=/x,{option} true\n"
    )
    assert "unexpected key" in error or "must be a key=value pair" in error
    _, error = build(
        builder, f"FROM busybox\nARG M=/x,{option}\nRUN --mount=type=bind,target=$M ls -d /x*\n"
    )
    assert not error  # a strange name, and no option


@pytest.mark.parametrize("id_", ["../../../../../../etc", "/etc", "..", "a/../../b"])
def test_cve_2024_9675_an_id_of_a_cache_is_no_path(builder: Daemon, id_: str) -> None:
    said, error = build(
        builder,
        f"FROM busybox\nRUN --mount=type=cache,id={id_},target=/c ls -a /c; touch /c/mine\n",
    )
    assert not error
    assert "passwd" not in said
    assert not Path("/etc/mine").exists()


@pytest.mark.parametrize("source", ["sub/../../..", "../../../etc", "/etc", "out", "out/passwd"])
def test_cve_2024_9675_a_part_of_a_cache_leads_nowhere_else(builder: Daemon, source: str) -> None:
    fill = "RUN --mount=type=cache,id=parts,target=/c ln -sfn ../../../../../../../etc /c/out\n"
    said, error = build(
        builder,
        f"FROM busybox\n{fill}RUN --mount=type=cache,id=parts,source={source},target=/got cat"
        " /got/passwd /got; touch /got/mine\n",
    )
    assert "root:" not in said
    assert not Path("/etc/mine").exists()
    assert error or source.startswith("sub/")  # which is the whole cache, once it is cleaned


def test_cve_2024_23651_a_part_of_a_cache_is_exchanged_while_it_is_mounted(
    builder: Daemon,
) -> None:
    """Two steps with one cache raced in BuildKit: a mount that was looked at led to the host."""
    swap = (
        "mkdir -p /c/real && echo inside >/c/real/passwd && ln -sfn /etc /c/link; "
        "while test ! -e /c/stop; do mv -T /c/real /c/sub; mv -T /c/sub /c/real;"
        " ln -sfn ../../../../../../../../etc /c/sub; rm /c/sub; done"
    )
    racing = threading.Thread(
        target=build, args=(builder, f"FROM busybox\nRUN {CACHE},target=/c {swap}\n")
    )
    racing.start()
    try:
        for number in range(12):
            said, _ = build(
                builder,
                f"FROM busybox\nRUN {CACHE},source=sub,target=/got cat /got/passwd # {number}",
            )
            assert "root:x:0" not in said
    finally:
        build(builder, f"FROM busybox\nRUN {CACHE},target=/c touch /c/stop\n")
        racing.join()


def test_cve_2025_4953_what_a_step_writes_to_a_mount_stays_nowhere(builder: Daemon) -> None:
    """Writes to bind mounts of buildah were kept, in the context or in the image."""
    said, error = build(
        builder,
        "FROM busybox AS base\nRUN echo 1 >/f\n"
        "FROM busybox\n"
        "RUN --mount=target=/c ! touch /c/new 2>&1; ! sh -c 'echo x >/c/old' 2>&1\n"
        "RUN --mount=from=base,source=/,target=/b ! touch /b/new 2>&1; ! rm /b/f 2>&1\n"
        "RUN --mount=target=/c --mount=from=base,source=/,target=/b cat /c/old /b/f; ls /c\n"
        "RUN ls -d /c /b 2>&1; true\n",
        tarballs.file("old", b"old\n"),
    )
    assert not error, said
    assert said.count("Read-only file system") == 4
    assert "old\n1\n" in said
    assert "ls: /c: No such file" in said
    assert "new" not in said.rpartition("Read-only")[2].replace("/b/new", "")


def test_cve_2025_4953_what_a_step_may_write_to_a_mount_stays_nowhere_either(
    builder: Daemon,
) -> None:
    said, error = build(
        builder,
        "FROM busybox AS base\nRUN mkdir -p /b/sub && echo 1 >/b/f\n"
        "FROM busybox\n"
        "RUN --mount=target=/c,rw --mount=from=base,source=/b,target=/b,rw"
        " --mount=target=/one,source=old,rw --mount=type=cache,target=/c/sub"
        " --mount=type=tmpfs,target=/b/sub --mount=type=secret,id=none"
        " ls -a /c | tr '\\n' ' '; grep -c -E ' (/c/sub|/b/sub|/c|/b|/one) ' /proc/mounts;"
        " echo new >/c/old; touch /c/new; rm /b/f; touch /b/new; echo new >/one\n"
        "RUN --mount=target=/c,rw --mount=from=base,source=/b,target=/b,rw"
        " --mount=target=/one,source=old,rw ls /c /b; cat /c/old /one\n"
        "RUN --mount=target=/c --mount=from=base,source=/b,target=/b ls /c /b; cat /c/old\n"
        "RUN ls -d /c /b /one 2>&1; true\n",
        tarballs.file("old", b"old\n"),
        tarballs.folder("sub"),
    )
    assert not error, said
    assert "\n. .. Dockerfile old sub 5\n" in said
    later = said[said.index("Step 5/7") :]
    assert later.count("/b:\nf\nsub\n") == 2
    assert "new" not in later
    assert later.count("old\n") >= 3
    assert "ls: /c: No such file" in later
    assert builder.request("GET", "/system/check").json["Problems"] in (None, [])


@pytest.mark.parametrize("kind", ["tmpfs", "cache", "secret,id=none", "bind"])
def test_cve_2024_23652_places_of_mounts_are_removed_in_the_layer_alone(
    builder: Daemon, kind: str, tmp_path: Path
) -> None:
    """BuildKit removed the empty places of mounts by path: a link there led to the host."""
    victim = tmp_path / "made" / "deep"
    victim.mkdir(parents=True)
    step = (
        f"RUN --mount=type={kind},target=/made/deep umount /made/deep 2>/dev/null;"
        f" rm -rf /made 2>/dev/null; mv /made /gone 2>/dev/null;"
        f" ln -s {tmp_path}/made /made 2>/dev/null; true\n"
    )
    build(builder, f"FROM busybox\n{step}")
    assert victim.is_dir()


def test_cve_2024_9676_a_user_database_of_an_image_holds_up_no_copy(builder: Daemon) -> None:
    """A FIFO, a link or an endless file as /etc/passwd made buildah read for ever."""
    for make in ("mkfifo /etc/passwd", "ln -s /dev/zero /etc/passwd", "ln -s loop /etc/passwd",
                 "mkdir /etc/passwd", "mknod /etc/passwd c 1 5"):  # fmt: skip
        _, error = build(
            builder,
            f"FROM busybox\nRUN rm -f /etc/passwd && {make}\nCOPY --chown=web f /f\n",
            tarballs.file("f"),
        )
        assert "can't find uid for user web" in error or "symbolic links" in error


def test_cve_2024_24557_the_cache_goes_by_content_and_not_by_texts(builder: Daemon) -> None:
    """Steps on FROM scratch with equal texts were taken for each other."""
    recipe = "FROM {}\nHEALTHCHECK CMD {}\nONBUILD RUN x\n"
    answers = []
    for base, check in (("scratch", "evil"), ("scratch", "good"), ("busybox", "good")):
        context = tarballs.archive(tarballs.file("Dockerfile", recipe.format(base, check).encode()))
        answer = builder.request("POST", "/build?t=hostile", context, TAR)
        assert answer.status == 200
        image = builder.request("GET", "/images/hostile/json").json
        answers.append((image["Id"], image["Config"]["Healthcheck"]["Test"][-1]))
    assert [check for _, check in answers] == ["evil", "good", "good"]
    assert len({name for name, _ in answers}) == 3
