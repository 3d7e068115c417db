"""What `sampan build` asks of a daemon beside building, and what it sends of its own folders."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests import buildkit
from tests.buildkit import Folders
from tests.daemon import Daemon
from tests.layouts import unpacked

pytestmark = [pytest.mark.privileged, pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A context, beside others."""
    folder = tmp_path / "context"
    folder.mkdir()
    return folder


def run(daemon: Daemon, *words: str, code: int = 0) -> tuple[str, str]:
    """Run `sampan build`; return both outputs."""
    result = subprocess.run(
        [daemon.programs["sampan"], "build", *words],
        env={**daemon.environment, "BUILDKIT_PROGRESS": "plain"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code, result.stderr
    return result.stdout, result.stderr


def images(daemon: Daemon) -> set[str]:
    return {one["Id"] for one in daemon.request("GET", "/images/json?all=1").json}


def test_a_dockerfile_is_checked_and_nothing_is_built(clean: Daemon, folder: Path) -> None:
    before = images(clean)
    (folder / "Dockerfile").write_text(
        "FROM busybox as one\nFROM busybox\nCOPY left /x\nWORKDIR y\nRUN exit 1\n"
    )
    (folder / ".dockerignore").write_text("left\n")
    (folder / "left").touch()
    said, _ = run(clean, "--check", str(folder), code=1)
    assert said.startswith(
        "Check complete, 3 warnings have been found!\n\nWARNING: FromAsCasing - "
    )
    assert (
        "'as' and 'FROM' keywords' casing do not match\n\nDockerfile:1\n--------------------\n"
        "   1 | >>> FROM busybox as one\n   2 |     FROM busybox\n   3 |     COPY left /x\n"
    ) in said
    assert said.index("CopyIgnoredFile") < said.index("WorkdirRelativePath")
    told = json.loads(run(clean, "--call", "check,format=json,ignorestatus=1", str(folder))[0])
    assert [one["ruleName"] for one in told["warnings"]] == [
        "FromAsCasing", "CopyIgnoredFile", "WorkdirRelativePath"]  # fmt: skip
    (folder / "Dockerfile").write_text("FROM busybox\n")
    assert run(clean, "--check", str(folder))[0] == "Check complete, no warnings found.\n"
    (folder / "Dockerfile").write_text("FROM busybox\nNOPE\n")
    _, said = run(clean, "--check", str(folder), code=1)
    assert "unknown instruction: NOPE" in said
    assert images(clean) == before


def test_a_dockerfile_is_asked_what_it_takes(clean: Daemon, folder: Path) -> None:
    (folder / "Dockerfile").write_text(
        "# one is the first\nFROM busybox AS one\n# WHO is greeted\nARG WHO=me\n"
        "RUN --mount=type=secret,id=token,required echo $WHO\nFROM one AS two\n"
    )
    assert run(clean, "--call=targets", str(folder))[0] == (
        "TARGET        DESCRIPTION\none           is the first\ntwo (default) \n"
    )
    said, _ = run(clean, "--call=outline", "--target=one", "--build-arg=WHO=you", str(folder))
    assert "BUILD ARG   VALUE   DESCRIPTION\nWHO         you     is greeted\n" in said
    assert "SECRET   REQUIRED\ntoken    true\n" in said
    said, _ = run(clean, "--call=outline,format=json", str(folder))
    assert [one["name"] for one in json.loads(said)["args"]] == ["WHO"]
    assert "frontend." not in run(clean, "--call=subrequests.describe", str(folder))[0]
    _, said = run(clean, "--call=nope", str(folder), code=1)
    assert "unsupported request nope: it is check, outline or targets" in said
    assert clean.request("POST", "/build/call?call=nope").status == 501


def test_only_the_dockerfile_is_sent_with_a_question(clean: Daemon, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\n")
    os.mkfifo(folder / "f")
    (folder / "secret").touch(mode=0o000)
    (folder / "large").write_bytes(b"")
    os.truncate(folder / "large", 1 << 40)  # sparse: nobody could send it
    assert "no warnings" in run(clean, "--check", str(folder))[0]


def test_folders_of_the_client_are_contexts(clean: Daemon, folder: Path) -> None:
    library = folder.parent / "library é"
    (library / "below").mkdir(parents=True)
    (library / "below" / "l").write_text("library\n")
    (library / "large").write_bytes(os.urandom(9 << 20))  # more than windows of HTTP/2
    (library / "hidden").touch()
    (library / ".dockerignore").write_text("hidden\n")
    (library / "link").symlink_to("below/l")
    (folder / "Dockerfile").write_text(
        "FROM busybox AS two\nRUN exit 1\nFROM busybox\n"
        "RUN --mount=from=lib,target=/m ls -A /m; cat /m/link; sha256sum /m/large\n"
        "COPY --from=two /below /b\nRUN ls /b\n"
    )
    words = f"--build-context=lib={library}", f"--build-context=two={library}", str(folder)
    _, said = run(clean, "-t", "made:1", *words)
    shown = "\n".join(re.findall(r"^#\d+ \d+\.\d{3} (.*)$", said, re.MULTILINE))
    assert ".dockerignore\nbelow\nlarge\nlink\nlibrary\n" in shown
    assert "hidden" not in shown
    assert "[context lib] load from client" in said
    _, said = run(clean, *words)
    assert said.count("CACHED") == 3, said
    (library / "hidden").write_text("other")  # it is not sent
    (library / "below" / "new").touch()
    _, said = run(clean, *words)
    assert "CACHED" not in said


def test_a_folder_that_cannot_be_read_ends_the_build(clean: Daemon, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nCOPY --from=lib /l /l\n")
    library = folder.parent / "library"
    library.mkdir()
    (library / ".dockerignore").write_text("[\n")
    _, said = run(clean, f"--build-context=lib={library}", str(folder), code=1)
    assert "syntax error in pattern" in said
    _, said = run(clean, f"--build-context=lib={folder}/Dockerfile", str(folder), code=1)
    assert f"failed to get build context path {folder}/Dockerfile: not a directory" in said


def test_an_image_of_a_layout_is_a_context(clean: Daemon, folder: Path) -> None:
    (folder / "Dockerfile").write_text("FROM busybox\nRUN echo laid >/laid\nENV A=b")
    run(clean, "-t", "made:1", str(folder))
    saved = clean.request("GET", "/images/made:1/get").body
    clean.request("DELETE", "/images/made:1")
    clean.request("POST", "/build/prune?all=1")
    layout = folder.parent / "layout"
    target = unpacked(saved, layout)
    (folder / "Dockerfile").write_text("FROM lay\nRUN cat /laid; echo $A\n")
    for where in (f"{layout}:1", f"{layout}@{target['digest']}", str(layout)):
        context = f"--build-context=lay=oci-layout://{where}"
        _, said = run(clean, "--no-cache", context, str(folder))
        assert "laid\n" in said
        assert "OCI load from client" in said
    context = f"--build-context=lay=oci-layout://{folder.parent}/none"
    _, said = run(clean, context, str(folder), code=1)
    assert f'oci-layout reference "oci-layout://{folder.parent}/none" could not be resolved' in said
    blob = layout / "blobs" / "sha256" / target["digest"].removeprefix("sha256:")
    blob.write_bytes(blob.read_bytes() + b" ")
    context = f"--build-context=lay=oci-layout://{layout}"
    _, said = run(clean, context, str(folder), code=1)
    assert f"the client has another content for {target['digest']}" in said


def test_both_faces_build_the_same_image_and_share_what_was_run(
    clean: Daemon, folder: Path
) -> None:
    (folder / "Dockerfile").write_text(
        'FROM busybox\nARG A=1\nRUN hostname >/h; cat /h\nWORKDIR /w\nCOPY f .\nCMD ["cat", "f"]\n'
    )
    (folder / "f").write_text("content\n")
    _, said = run(clean, "-t", "made:1", str(folder))
    assert "buildkitsandbox\n" in said
    image = clean.request("GET", "/images/made:1/json").json["Id"]
    served = Folders({"context": folder, "dockerfile": folder})
    made = asyncio.run(buildkit.build(clean.socket, served, "made:2", ("moby",)))
    assert made.response["containerimage.digest"] == image
    assert made.logs.startswith(b"writing image")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as packed:
        packed.add(folder, ".")
    classic = clean.request("POST", "/build?t=made:3", archive.getvalue())
    assert classic.body.count(b"Using cache") >= 3
    words = {}
    for tag in "123":
        history = clean.request("GET", f"/images/made:{tag}/history").json
        words[tag] = [one["CreatedBy"] for one in history[:5]]
        layers = clean.request("GET", f"/images/made:{tag}/json").json["RootFS"]["Layers"]
        words[f"layers {tag}"] = layers
    assert words["layers 1"] == words["layers 2"] == words["layers 3"]
    assert (
        words["1"]
        == words["2"]
        == [
            'CMD ["cat" "f"]',
            "COPY f . # buildkit",
            "WORKDIR /w",
            "RUN |1 A=1 /bin/sh -c hostname >/h; cat /h # buildkit",
            "ARG A=1",
        ]
    )
    assert words["3"][0] == '/bin/sh -c #(nop)  CMD ["cat" "f"]'
    assert words["3"][3] == "|1 A=1 /bin/sh -c hostname >/h; cat /h"
