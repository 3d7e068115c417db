"""Platforms, as containerd reads them."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.spec.platform import Platform


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("LINUX/AMD64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/i386", "linux/386"),
        ("amd64", "linux/amd64"),
        ("macos/arm64", "darwin/arm64"),
    ],
)
def test_a_platform_is_normalised(text: str, whole: str) -> None:
    assert str(Platform.parse(text)) == whole


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "linux/*", "nothing", "linux/a b"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        Platform.parse(text)


def test_the_host_runs_its_own_images() -> None:
    host = Platform.host()
    assert host.runs(Platform.of("linux", host.architecture))
    assert Platform.parse("linux").architecture == host.architecture


def test_a_newer_arm_runs_images_of_older_ones() -> None:
    assert Platform.parse("linux/arm/v7").runs(Platform.of("linux", "arm", "v6"))
    assert not Platform.parse("linux/arm/v6").runs(Platform.of("linux", "arm", "v7"))
    assert not Platform.parse("linux/amd64").runs(Platform.of("linux", "arm64"))
