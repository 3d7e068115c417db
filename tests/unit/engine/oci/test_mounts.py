"""Binds, mounts, volumes and tmpfs, as users write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.engine.oci import mounts as oci_mounts
from sampan.errors import InvalidArgument
from sampan.spec.docker.config import (
    BindOptions,
    Config,
    DriverConfig,
    HostConfig,
    ImageOptions,
    Mount,
    TmpfsOptions,
    VolumeOptions,
)


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


def test_a_bind_whose_source_is_no_path_is_a_named_volume() -> None:
    point = oci_mounts.parse_bind("data:/data:ro,nocopy", "remote")
    assert (point.kind, point.name, point.source) == ("volume", "data", "")
    assert not point.writable
    assert not point.copy_up
    assert point.spec.volume_options
    assert point.spec.volume_options.driver_config == DriverConfig(name="remote")


def test_a_volume_has_no_propagation() -> None:
    with pytest.raises(InvalidArgument, match="field BindOptions must not be specified"):
        oci_mounts.parse_bind("data:/data:rslave")


@pytest.mark.parametrize("path", ["..", "a/../../b", "/etc", "a/\0"])
def test_a_subpath_cannot_leave_its_volume_as_it_is_written(path: str) -> None:
    for mount in (
        Mount(type="volume", source="v1", target="/x", volume_options=VolumeOptions(subpath=path)),
        Mount(type="image", source="i", target="/x", image_options=ImageOptions(subpath=path)),
    ):
        with pytest.raises(InvalidArgument, match="subpath must be a relative path within the vol"):
            oci_mounts.parse_mount(mount)


def test_a_subpath_may_go_up_inside_its_volume() -> None:
    options = VolumeOptions(subpath="a/../b/..")
    oci_mounts.parse_mount(Mount(type="volume", source="v1", target="/x", volume_options=options))


def test_an_anonymous_volume_has_no_subpath() -> None:
    options = VolumeOptions(subpath="a")
    with pytest.raises(InvalidArgument, match="must not set Subpath when using anonymous volumes"):
        oci_mounts.parse_mount(Mount(type="volume", target="/x", volume_options=options))


@given(st.text())
def test_no_bind_raises_anything_unexpected(spec: str) -> None:
    try:
        oci_mounts.parse_bind(spec)
    except InvalidArgument:
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
        (Mount(type="image", target="/x"), "field Source must not be empty"),
        (
            Mount(type="volume", target="/x", bind_options=BindOptions()),
            "field BindOptions must not be specified",
        ),
        (
            Mount(type="bind", source="etc", target="/x"),
            "invalid mount path: 'etc' mount path must be absolute",
        ),
        (
            Mount(type="bind", source="/", target="x"),
            "invalid mount path: 'x' mount path must be absolute",
        ),
        (
            Mount(type="volume", source="v1", target="/"),
            "invalid specification: destination can't be '/'",
        ),
        (
            Mount(
                type="bind", source="/", target="/x", bind_options=BindOptions(propagation="wild")
            ),
            "invalid propagation mode: wild",
        ),
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


def test_a_place_is_not_a_tmpfs_and_something_else() -> None:
    host = HostConfig(binds=["/a:/x"], tmpfs={"/x/": ""})
    with pytest.raises(InvalidArgument, match="Duplicate mount point: /x"):
        oci_mounts.parse(Config(), host)
    assert oci_mounts.parse(Config(volumes={"/x": {}}), HostConfig(tmpfs={"/x": ""})) == []


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        ("", "volumes-from specification cannot be an empty string"),
        ("c:sideways", "invalid mode: sideways"),
        ("c:rslave", "invalid mode: rslave"),
        ("c:nocopy", "invalid mode: nocopy"),
    ],
)
def test_wrong_volumes_from_is_refused(item: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        oci_mounts.parse_volumes_from(item)
    assert str(refused.value) == sentence
