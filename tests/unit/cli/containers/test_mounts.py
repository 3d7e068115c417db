"""The value of --mount."""

from __future__ import annotations

import os

import pytest

from sampan.cli.containers.mounts import parse_mount


def test_a_bind_mount_has_options_of_its_own() -> None:
    text = "type=bind,src=/a,dst=/b,readonly,bind-propagation=rprivate,bind-recursive=readonly"
    assert parse_mount(text) == {
        "Type": "bind",
        "Source": "/a",
        "Target": "/b",
        "ReadOnly": True,
        "BindOptions": {"Propagation": "rprivate", "ReadOnlyForceRecursive": True},
    }


def test_a_relative_source_is_made_absolute() -> None:
    assert parse_mount("type=bind,src=./x,dst=/b")["Source"] == os.path.abspath("x")


def test_a_volume_has_labels_and_a_driver() -> None:
    text = 'src=v,target=/d,volume-nocopy,volume-label=a=1,volume-driver=x,"volume-opt=o=a,b"'
    assert parse_mount(text)["VolumeOptions"] == {
        "NoCopy": True,
        "Labels": {"a": "1"},
        "DriverConfig": {"Name": "x", "Options": {"o": "a,b"}},
    }


def test_a_tmpfs_has_size_and_mode() -> None:
    found = parse_mount("type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1770")
    assert found["TmpfsOptions"] == {"SizeBytes": 1 << 20, "Mode": 0o1770}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "value is empty"),
        ("foo", "invalid field 'foo' must be a key=value pair"),
        ("foo=1", "unknown option 'foo' in 'foo=1'"),
        ("type=", "invalid value for 'type': value is empty"),
        (
            " type=bind, src=/x",
            "invalid option 'src' in ' src=/x': option should not have whitespace",
        ),
        ("type=bind,volume-nocopy", "cannot mix 'volume-*' options with mount type 'bind'"),
        ("type=tmpfs,tmpfs-size=x", "invalid value for tmpfs-size: x"),
        (
            "type=bind,readonly=maybe",
            "invalid value for 'readonly': invalid boolean value (\"maybe\"): "
            'must be one of "true", "1", "false", or "0" (default "true")',
        ),
        (
            "type=bind,bind-recursive=writable",
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction",
        ),
    ],
)
def test_a_wrong_mount_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_mount(text)
    assert str(raised.value) == message
