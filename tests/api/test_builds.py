"""Builds on a real daemon: real layers, real containers, clients that leave, killed daemons."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests import tarballs
from tests.daemon import Answer, Daemon, running
from tests.session import eventually

pytestmark = [pytest.mark.privileged, pytest.mark.slow]

TAR = {"Content-Type": "application/x-tar"}


def context(dockerfile: str, *members: bytes) -> bytes:
    return tarballs.archive(tarballs.file("Dockerfile", dockerfile.encode()), *members)


def build(daemon: Daemon, dockerfile: str, *members: bytes, query: str = "") -> list[Any]:
    """Build, and return the messages."""
    answer = daemon.request("POST", f"/build?{query}", context(dockerfile, *members), TAR)
    assert answer.status == 200, answer.body
    return messages(answer)


def messages(answer: Answer) -> list[Any]:
    return [json.loads(line) for line in answer.body.splitlines()]


def text(said: list[Any]) -> str:
    return "".join(message.get("stream", message.get("error", "")) for message in said)


def output(daemon: Daemon, image: str, *command: str) -> str:
    """Return what a command writes in a container of an image."""
    run = subprocess.run(
        [*daemon.enter, daemon.programs["sampan"], "run", "--rm", image, *command],
        env=daemon.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


@pytest.fixture
def clean(daemon: Daemon) -> Iterator[Daemon]:
    """Give a daemon, and leave it no images of this test and no cache."""
    yield daemon
    daemon.remove_other_images()
    daemon.request("POST", "/build/prune?all=1")


def test_a_build_makes_an_image_that_runs(clean: Daemon) -> None:
    said = build(
        clean,
        "FROM busybox AS maker\nWORKDIR /out\nRUN echo made > result && chown 12:34 result\n"
        "FROM busybox\nENV WHO=world\nCOPY --from=maker /out/result /made\n"
        "COPY --chown=5 --chmod=0640 greeting /lib/greeting\nRUN rm -r /home && mkdir -p /new/er\n"
        'ADD files.tar.gz /files\nUSER 7\nCMD ["sh", "-c", "cat /made; echo $WHO; id -u"]\n',
        tarballs.file("greeting", b"hello\n"),
        tarballs.file(
            "files.tar.gz", gzip.compress(tarballs.archive(tarballs.file("x/y", b"inside")))
        ),
        query="t=made:1&t=made:2",
    )
    assert text(said).endswith("Successfully tagged made:1\nSuccessfully tagged made:2\n")
    assert output(clean, "made:2") == "made\nworld\n7\n"
    seen = output(
        clean, "made:1", "sh", "-c",
        "stat -c '%u %g %a' /made /lib/greeting; ls -d /home 2>&1; cat /files/x/y; ls /new",
    )  # fmt: skip
    assert seen == "12 34 644\n5 5 640\nls: /home: No such file or directory\ninsideer\n"
    assert clean.request("GET", "/containers/json?all=1").json == []


def test_a_built_image_is_saved_and_checked_as_any_other(clean: Daemon) -> None:
    build(clean, "FROM busybox\nRUN rm /bin/vi; mkdir /x; echo y > /x/y; ln /x/y /x/z\nCOPY f /g",
          tarballs.file("f", b"g" * 300_000), query="t=made")  # fmt: skip
    assert clean.request("GET", "/images/made/get").status == 200
    # What containers of other tests leave is on its way into the trash.
    eventually(lambda: clean.request("GET", "/system/check").json["Problems"] in (None, []))


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_a_context_may_be_compressed(clean: Daemon, compress: Any) -> None:
    body = compress(context("FROM busybox\nLABEL a=b"))
    answer = clean.request("POST", "/build?q=1", body, TAR)
    assert messages(answer)[0]["stream"].startswith("sha256:")


def test_a_failed_command_gives_its_code_and_no_image(clean: Daemon) -> None:
    before = clean.request("GET", "/images/json?all=1").json
    said = build(clean, "FROM busybox\nRUN echo to stderr >&2; exit 42", query="t=made")
    assert said[-2]["stream"] == "\x1b[91mto stderr\n\x1b[0m"
    assert said[-1]["errorDetail"] == {
        "code": 42,
        "message": "The command '/bin/sh -c echo to stderr >&2; exit 42' returned a non-zero"
        " code: 42",
    }
    assert clean.request("GET", "/images/json?all=1").json == before
    assert clean.request("GET", "/containers/json?all=1").json == []


@pytest.mark.parametrize(
    ("dockerfile", "query", "message"),
    [
        ("FOO", "", "dockerfile parse error on line 1: unknown instruction: FOO"),
        ("FROM busybox", "t=No:Such:Name", "invalid reference format"),
        ("FROM busybox", "dockerfile=other", "Cannot locate specified Dockerfile: other"),
        ("FROM busybox", "target=x", "target stage x could not be found"),
        ("FROM busybox", "buildargs=x", "error reading buildargs"),
        ("FROM busybox", "platform=a/b/c/d", "cannot parse platform specifier"),
    ],
)
def test_what_is_wrong_with_a_request_is_a_bad_request(
    clean: Daemon, dockerfile: str, query: str, message: str
) -> None:
    answer = clean.request("POST", f"/build?{query}", context(dockerfile), TAR)
    assert answer.status == 400
    assert message in answer.json["message"]


@pytest.mark.parametrize("moment", [b"Step 2", b"Running in", b'"now'], ids=str)
def test_a_client_that_leaves_ends_its_build(clean: Daemon, moment: bytes) -> None:
    body = context("FROM busybox\nRUN echo now; sleep 1000")
    with clean.connect() as sock:
        head = f"POST /build HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        seen = b""
        while moment not in seen:
            seen += sock.recv(4096)
    eventually(lambda: clean.request("GET", "/containers/json?all=1").json == [])
    eventually(lambda: clean.request("GET", "/system/check").json["Problems"] in (None, []))


def test_limits_and_networks_of_the_request_are_those_of_the_commands(clean: Daemon) -> None:
    said = build(
        clean,
        "FROM busybox\nRUN cat /etc/hosts; ulimit -n; ls /sys/class/net",
        query="networkmode=none&extrahosts=far:1.2.3.4"
        "&ulimits=[{%22Name%22:%22nofile%22,%22Soft%22:99,%22Hard%22:99}]",
    )
    shown = text(said)
    assert "1.2.3.4\tfar" in shown
    assert "\n99\n" in shown
    assert "eth0" not in shown


def test_mounts_are_there_for_one_command_and_in_no_layer(clean: Daemon) -> None:
    dockerfile = (
        "FROM busybox AS maker\nRUN mkdir /dir && echo made > /dir/f\nFROM busybox\n"
        "RUN --mount=type=bind,source=sub,target=/in/context"
        " --mount=type=bind,source=one,target=/single"
        " --mount=type=bind,from=maker,source=dir,target=/stage"
        " --mount=type=cache,target=/cache,uid=7,mode=0700 --mount=type=tmpfs,target=/fast"
        " cat /in/context/x /single /stage/f && stat -c '%u %a' /cache && echo 1 >> /cache/n"
        " && wc -l < /cache/n && echo > /fast/y && echo written > /out\n"
        "RUN <<EOF\n#!/bin/cat\n42\nEOF\n"
    )
    members = tarballs.file("sub/x", b"from context\n"), tarballs.file("one", b"single\n")
    before = len(clean.request("GET", "/images/json?all=1").json)
    said = text(build(clean, dockerfile, *members, query="t=made"))
    assert "from context\nsingle\nmade\n7 700\n1\n" in said
    assert "\n42\n" in said
    said = text(build(clean, dockerfile, *members, query="t=made&nocache=1"))
    assert "7 700\n2\n" in said  # the cache has stayed
    assert output(clean, "made", "sh", "-c", "ls -d /in /single /stage /cache /fast /out 2>&1 |"
                  " grep -v No; cat /out") == "/out\nwritten\n"  # fmt: skip
    assert len(clean.request("GET", "/images/json?all=1").json) <= before + 2
    for volume in clean.request("GET", "/volumes").json["Volumes"]:
        clean.request("DELETE", f"/volumes/{volume['Name']}")


def test_a_cache_begins_with_files_of_a_stage(clean: Daemon) -> None:
    dockerfile = (
        "FROM busybox AS maker\nRUN mkdir -p /seed/sub && echo 1 >/seed/sub/n && chown -R 7:8 /seed"
        " && chmod 750 /seed && ln /seed/sub/n /seed/hard && ln -s sub/n /seed/soft\nFROM busybox\n"
        "ARG AGAIN\n"
        "RUN --mount=type=cache,id=shop,target=/c,from=maker,source=/seed"
        " stat -c '%u %g %a' /c /c/sub/n && stat -c %h /c/hard && echo 2 >>/c/soft && cat /c/hard\n"
        "RUN --mount=type=cache,id=bin,target=/c,from=busybox,source=/etc ls /c/passwd"
    )
    first = text(build(clean, dockerfile))
    assert "7 8 750\n7 8 644\n2\n1\n2\n" in first
    assert "/c/passwd\n" in first
    again = text(build(clean, dockerfile, query="buildargs=%7B%22AGAIN%22:%221%22%7D"))
    assert "7 8 750\n7 8 644\n2\n1\n2\n2\n" in again  # it has stayed
    names = {one["Name"] for one in clean.request("GET", "/volumes").json["Volumes"]}
    caches = {one for one in names if one.startswith("sampan-build-cache-")}
    assert len(caches) == 2
    assert clean.request("POST", "/build/prune?all=1").status == 200
    names = {one["Name"] for one in clean.request("GET", "/volumes").json["Volumes"]}
    assert not names & caches
    assert "7 8 644\n2\n1\n2\n" in text(build(clean, dockerfile))  # and begins anew
    assert clean.request("GET", "/containers/json?all=1").json == []


def test_the_same_build_gives_the_same_layers_for_one_epoch(clean: Daemon) -> None:
    ids = set()
    for _ in range(2):
        query = "q=1&nocache=1&buildargs={%22SOURCE_DATE_EPOCH%22:%221000000000%22}"
        said = build(clean, "FROM busybox\nRUN mkdir -p /a/b; echo x > /a/f; ln /a/f /a/g\n"
                     "COPY f /h/\nWORKDIR /w", tarballs.file("f"), query=query)  # fmt: skip
        ids.add(said[-1]["stream"])
    assert len(ids) == 1


def test_squashed_layers_are_one(clean: Daemon) -> None:
    build(clean, "FROM busybox\nRUN echo 1 > /a; rm -r /home\nRUN rm /a; echo 2 > /b; mkdir /home",
          query="t=made&squash=1")  # fmt: skip
    layers = clean.request("GET", "/images/made/json").json["RootFS"]["Layers"]
    assert len(layers) == 2
    assert output(clean, "made", "sh", "-c", "cat /b; ls /a /home 2>&1; true") == (
        "2\nls: /a: No such file or directory\n/home:\n"
    )


def test_unused_layers_go_with_the_cache(clean: Daemon) -> None:
    build(clean, "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1k count=300", query="t=made")
    clean.request("DELETE", "/images/made")
    assert "Using cache" in text(
        build(clean, "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1k count=300", query="t=made")
    )
    clean.request("DELETE", "/images/made")
    report = clean.request("POST", "/build/prune").json
    assert report["SpaceReclaimed"] == 300 << 10
    assert len(report["CachesDeleted"]) == 1


def test_a_killed_daemon_leaves_nothing_of_a_build_and_its_cache_is_sound() -> None:
    dockerfile = "FROM busybox\nRUN echo first > /1\nRUN echo second > /2; sleep 1000"
    body = context(dockerfile)
    with running() as daemon:
        daemon.import_image()
        with daemon.connect() as sock:
            head = f"POST /build?t=made HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            sock.sendall(head.encode() + body)
            seen = b""
            while seen.count(b"Running in") < 2:
                seen += sock.recv(4096)
            assert daemon.process
            os.kill(daemon.process.pid, 9)
        daemon.kill()
        daemon.start()
        eventually(lambda: daemon.request("GET", "/containers/json?all=1").json == [])
        assert [one["RepoTags"] for one in daemon.request("GET", "/images/json?all=1").json] == [
            ["busybox:latest"]
        ]
        said = build(daemon, dockerfile.replace("; sleep 1000", ""), query="t=made")
        assert text(said).count("Using cache") == 1
        assert output(daemon, "made", "cat", "/1", "/2") == "first\nsecond\n"
        eventually(lambda: not daemon.request("GET", "/system/check").json["Problems"])
