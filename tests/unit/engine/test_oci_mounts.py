"""Binds, mounts, volumes and tmpfs, as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine import oci_mounts
from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.docker.config import BindOptions, Config, HostConfig, Mount, TmpfsOptions
from sampan.spec.docker.containers import MountPoint


def test_a_bind_has_source_target_and_mode() -> None:
    point = oci_mounts.parse_bind("/srv//data:/data/:ro,rslave")
    assert (point.kind, point.source, point.destination) == ("bind", "/srv/data", "/data")
    assert not point.writable
    assert point.propagation == "rslave"
    assert point.mode == "ro,rslave"


def test_a_bind_of_one_path_is_an_anonymous_volume() -> None:
    point = oci_mounts.parse_bind("/data")
    assert (point.kind, point.destination, point.source) == ("volume", "/data", "")


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("/no/such:relative", "'relative' mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/b:sideways", "invalid mode: sideways"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:ro", "invalid volume specification: '/a:ro'"),
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:/b:ro:x", "invalid volume specification"),
    ],
)
def test_a_wrong_bind_is_refused_in_docker_s_words(spec: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        oci_mounts.parse_bind(spec)
    assert sentence in str(refused.value)


def test_a_named_volume_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(Unsupported, match="bind a folder of the host instead of 'data'"):
        oci_mounts.parse_bind("data:/data")


@given(st.text())
def test_no_bind_raises_anything_unexpected(spec: str) -> None:
    try:
        oci_mounts.parse_bind(spec)
    except (InvalidArgument, Unsupported):
        pass


def test_a_mount_of_a_missing_source_is_refused(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    with pytest.raises(InvalidArgument, match=f"bind source path does not exist: {missing}"):
        oci_mounts.parse_mount(Mount(type="bind", source=missing, target="/x"))
    options = BindOptions(create_mountpoint=True)
    made = Mount(type="bind", source=missing, target="/x", bind_options=options)
    assert oci_mounts.parse_mount(made).make_source


@pytest.mark.parametrize(
    ("mount", "sentence"),
    [
        (Mount(type="bind", target="/x"), "field Source must not be empty"),
        (Mount(type="bind", source="/"), "field Target must not be empty"),
        (Mount(type="tmpfs", source="x", target="/x"), "field Source must not be specified"),
        (Mount(type="nonsense", target="/x"), "mount type unknown"),
        (
            Mount(type="bind", source="/", target="/x", tmpfs_options=TmpfsOptions()),
            "field TmpfsOptions must not be specified",
        ),
    ],
)
def test_a_wrong_mount_is_refused_in_docker_s_words(mount: Mount, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        oci_mounts.parse_mount(mount)
    assert f'invalid mount config for type "{mount.type}": {sentence}' == str(refused.value)


def test_the_same_place_cannot_be_mounted_twice() -> None:
    host = HostConfig(binds=["/a:/x", "/b:/x/"])
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        oci_mounts.parse(Config(), host)


def test_a_volume_of_the_image_gives_way_to_the_user_s_bind() -> None:
    points = oci_mounts.parse(Config(volumes={"/x": {}, "/y": {}}), HostConfig(binds=["/a:/x"]))
    assert [(point.kind, point.destination) for point in points] == [
        ("bind", "/x"),
        ("volume", "/y"),
    ]


def test_options_of_a_tmpfs_replace_the_defaults_that_they_contradict() -> None:
    assert oci_mounts.merged_tmpfs(["exec", "size=1m", "ro"]) == [
        *("nosuid", "nodev", "exec", "size=1m", "ro")
    ]
    with pytest.raises(InvalidArgument, match="invalid tmpfs option"):
        oci_mounts.merged_tmpfs(["loud"])


def test_anonymous_volumes_get_a_name_and_a_folder_in_the_container_s(tmp_path: Path) -> None:
    config = Config(volumes={"/data": {}})
    (point,) = oci_mounts.mount_points("1" * 64, config, HostConfig(), tmp_path)
    assert point.type == "volume"
    assert point.driver == "local"
    assert point.source == f"{tmp_path}/containers/{'1' * 64}/volumes/{point.name}/_data"


def test_volumes_from_takes_the_mounts_of_the_other_container(tmp_path: Path) -> None:
    theirs = [MountPoint(type="bind", source="/srv", destination="/srv", propagation="rprivate")]
    host = HostConfig(volumes_from=["other:ro"])
    (point,) = oci_mounts.mount_points("1" * 64, Config(), host, tmp_path, {"other": theirs}.get)  # type: ignore[arg-type]
    assert (point.source, point.destination, point.rw) == ("/srv", "/srv", False)
