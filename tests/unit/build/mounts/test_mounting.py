"""RUN --mount in whole builds: what is mounted, what the step's result depends on, what stays."""

from __future__ import annotations

import pytest

from sampan.build.mounts.sharing import LABEL
from sampan.errors import InvalidArgument, NotFound
from tests import tarballs
from tests.build_worker import Yard


@pytest.fixture
def yard() -> Yard:
    yard = Yard()
    yard.worker.have("box", tarballs.folder("etc"), tarballs.file("etc/hosts"))
    return yard


def test_a_part_of_the_context_is_mounted_and_its_place_is_in_no_layer(yard: Yard) -> None:
    text = "FROM box\nRUN --mount=type=bind,source=src,target=/new/place write /x y"
    yard.built(text, tarballs.file("src/f", b"1"))
    [mount] = yard.worker.steps[-1].mounts
    assert (mount.type, mount.target) == ("image", "/new/place")
    assert mount.image_options
    assert mount.image_options.subpath == ""
    [[diff_id]] = yard.worker.mounted
    assert tarballs.names(yard.worker.archives[diff_id]) == ["f"]
    assert yard.content("/x") == b"y"
    assert "/new/place" not in yard.files()


def test_a_single_file_is_mounted(yard: Yard) -> None:
    yard.built("FROM box\nWORKDIR /w\nRUN --mount=source=f,target=g write /x y",
               tarballs.file("f", b"1"))  # fmt: skip
    [mount] = yard.worker.steps[-1].mounts
    assert (mount.target, mount.image_options and mount.image_options.subpath) == ("/w/g", "file")


@pytest.mark.parametrize(("second", "cached"), [(b"1", True), (b"2", False)])
def test_a_step_depends_on_the_content_of_what_is_mounted(
    yard: Yard, second: bytes, cached: bool
) -> None:
    text = "FROM box\nRUN --mount=source=f,target=/f write /x y"
    yard.built(text, tarballs.file("f", b"1"), tarballs.file("other", b"1"))
    said = yard.built(text, tarballs.file("f", second), tarballs.file("other", b"2"))
    assert ("Using cache" in said) is cached


def test_other_stages_are_mounted(yard: Yard) -> None:
    yard.built(
        "FROM box AS a\nRUN write /dir/f 1\n"
        "FROM box\nRUN --mount=from=a,source=/dir,target=/m write /x y"
    )
    [mount] = yard.worker.steps[-1].mounts
    assert mount.image_options
    assert mount.image_options.subpath == "dir"
    assert len(yard.worker.mounted[-1]) == 2


def test_what_a_step_may_change_is_a_copy(yard: Yard) -> None:
    yard.built(
        "FROM box AS a\nRUN write /dir/f 1\n"
        "FROM box\nRUN --mount=target=/c,source=src,rw --mount=target=/f,source=src/f,rw"
        " --mount=from=a,source=/dir,target=/d,rw write /x y",
        tarballs.file("src/f", b"1"),
    )
    step = yard.worker.steps[-1]
    assert step.mounts == []
    assert [(copy.target, copy.subpath) for copy in step.loan.copies] == [
        ("/c", "bind"), ("/f", "bind/file"), ("/d", "dir"),
    ]  # fmt: skip
    assert set(yard.files()) & {"/c", "/f", "/d", "/bind"} == set()


def test_caches_are_volumes_with_names_of_their_own(yard: Yard) -> None:
    yard.built(
        "FROM box\nRUN --mount=type=cache,target=/c write /x y\n"
        "RUN --mount=type=cache,target=/d,id=/c,sharing=locked,uid=5,mode=0700 write /z y"
    )
    first, second = yard.worker.steps
    assert first.mounts[0].source == second.mounts[0].source
    assert first.mounts[0].source.startswith("sampan-build-cache-")
    options = first.mounts[0].volume_options
    assert options
    assert options.labels == {LABEL: "/c"}
    assert [(it.path, it.uid, it.mode) for it in second.folders] == [("/d", 5, 0o700)]


def test_an_id_of_a_cache_cannot_name_another_folder(yard: Yard) -> None:
    """Ids of caches led out of their folder in buildah (CVE-2024-9675)."""
    yard.built("FROM box\nRUN --mount=type=cache,target=/c,id=../../etc write /x y")
    source = yard.worker.steps[-1].mounts[0].source
    assert source.removeprefix("sampan-build-cache-").isalnum()


def test_secrets_that_no_client_has_are_left_out_unless_they_are_required(yard: Yard) -> None:
    yard.built("FROM box\nRUN --mount=type=secret,id=a --mount=type=ssh print x")
    assert yard.worker.steps[-1].mounts == []
    with pytest.raises(InvalidArgument, match="secret a: not found"):
        yard.built("FROM box\nRUN --mount=type=secret,id=a,required=true print x")


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ("target=/x,source=none", "failed to mount none: file does not exist"),
        ("target=/x,source=../../none", "failed to mount ../../none: file does not exist"),
        (
            "type=cache,target=/x,from=box,source=/none",
            "failed to mount /none: file does not exist",
        ),
        ("type=cache,target=/x,from=box,source=/etc/hosts", "/etc/hosts: not a directory"),
        ("type=cache,target=/x,from=none", "invalid from flag value none"),
    ],
)
def test_what_cannot_be_mounted_is_named(yard: Yard, mount: str, message: str) -> None:
    with pytest.raises((InvalidArgument, NotFound), match=message):
        yard.built(f"FROM box\nRUN --mount={mount} print x")


def test_variables_are_replaced_in_mounts(yard: Yard) -> None:
    yard.built("FROM box\nARG D=/c\nRUN --mount=type=cache,target=$D print x")
    assert yard.worker.steps[-1].mounts[0].target == "/c"


def test_a_document_with_an_interpreter_is_executed(yard: Yard) -> None:
    text = "FROM box\nRUN <<EOF\n#!/bin/awk -f\nBEGIN {}\nEOF"
    yard.built(text)
    step = yard.worker.steps[-1]
    assert step.command == ["/dev/pipes/EOF"]
    assert [(it.type, it.target) for it in step.mounts] == [("image", "/dev/pipes/EOF")]
    [[diff_id]] = yard.worker.mounted
    assert b"BEGIN {}" in yard.worker.archives[diff_id]
    assert "Using cache" in yard.built(text)
    assert "Using cache" not in yard.built(text.replace("BEGIN", "END"))


def test_other_documents_are_read_by_the_shell(yard: Yard) -> None:
    yard.built("FROM box\nRUN <<EOF\necho 1\nEOF\nRUN cat <<A > /x\nb\nA")
    assert [step.command[-1] for step in yard.worker.steps] == [
        "echo 1\n",
        "cat <<A > /x\nb\nA",
    ]


def test_squashing_makes_one_layer_of_all_new_ones(yard: Yard) -> None:
    yard.built("FROM box\nRUN write /a 1\nRUN write /b 2\nRUN write /a 3\nCMD x", squash=True)
    assert len(yard.made.diff_ids) == 2
    assert (yard.content("/a"), yard.content("/b")) == (b"3", b"2")
    history = yard.made.history or []
    assert history[-1].comment == "merge"
    assert [step.empty_layer for step in history] == [True] * 4 + [False]


def test_times_of_commands_are_no_later_than_the_epoch(yard: Yard) -> None:
    yard.built("FROM box\nRUN write /a 1", arguments={"SOURCE_DATE_EPOCH": "0"})
    assert yard.files()["/a"][0].mtime == 0
    assert yard.made.created == "1970-01-01T00:00:00Z"
