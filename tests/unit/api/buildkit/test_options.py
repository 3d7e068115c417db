"""Attributes of the front end become options of builds, or are refused."""

from __future__ import annotations

import pytest

from sampan.api.buildkit.llb import definition_of
from sampan.api.buildkit.options import is_ours, wish_of
from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.build import BuildOptions, Limits
from sampan.spec.docker.config import Ulimit


def test_nothing_said_is_a_dockerfile_in_the_context() -> None:
    wish = wish_of({})
    assert wish.options == BuildOptions(buildkit=True)
    assert (wish.context_name, wish.dockerfile_name) == ("context", "dockerfile")


def test_everything_said_reaches_the_build() -> None:
    wish = wish_of(
        {
            "filename": "a/Recipe", "target": "t", "build-arg:A": "1", "build-arg:B": "",
            "label:l": "v", "platform": "linux/arm64", "no-cache": "",
            "image-resolve-mode": "pull", "force-network-mode": "host",
            "add-hosts": "a=1.2.3.4,b=::1", "memory": "1", "memswap": "2", "cpushares": "3",
            "cpuperiod": "4", "cpuquota": "5", "shm-size": "6", "cpusetcpus": "0",
            "cpusetmems": "1", "cgroup-parent": "/p", "ulimit": "nofile=1:2,core=3",
            "contextkey": "c", "dockerfilekey": "d", "frontend.caps": "x", "cmdline": "y",
            "hostname": "h",
        }
    )  # fmt: skip
    assert wish.options == BuildOptions(
        dockerfile="a/Recipe",
        target="t",
        arguments={"A": "1", "B": ""},
        labels={"l": "v"},
        platform="linux/arm64",
        no_cache=True,
        pull=True,
        network="host",
        hostname="h",
        buildkit=True,
        extra_hosts=["a:1.2.3.4", "b:::1"],
        limits=Limits(
            memory=1, memory_swap=2, cpu_shares=3, cpu_period=4, cpu_quota=5, shm_size=6,
            cpuset_cpus="0", cpuset_mems="1", cgroup_parent="/p",
            ulimits=[Ulimit(name="nofile", soft=1, hard=2), Ulimit(name="core", soft=3, hard=3)],
        ),
    )  # fmt: skip
    assert (wish.context_name, wish.dockerfile_name) == ("c", "d")


@pytest.mark.parametrize(
    ("attributes", "kind", "sentence"),
    [
        ({"requestid": "frontend.other"}, Unsupported, "unsupported request frontend.other"),
        ({"build-arg:BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"}, Unsupported, "KEEP_GIT_DIR"),
        ({"context:a": "input:b"}, InvalidArgument, "invalid input b for a"),
        ({"platform": "linux,b"}, InvalidArgument, "unknown operating system"),
        ({"shm-size": "1g"}, InvalidArgument, "invalid shm-size: 1g"),
        ({"ulimit": "nofile"}, InvalidArgument, "invalid ulimit: nofile"),
        ({"force-network-mode": "x"}, InvalidArgument, "invalid network mode: x"),
    ],
)
def test_what_cannot_be_is_refused(
    attributes: dict[str, str], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        wish_of(attributes)


def test_platforms_are_normalised_and_counted_once() -> None:
    wish = wish_of({"platform": "linux/arm64/v8,arm64,linux/amd64"})
    assert (wish.platforms, wish.is_index) == (["linux/arm64", "linux/amd64"], True)
    assert wish_of({"multi-platform": "true"}).is_index
    assert list(wish_of({}).platforms) == [""]


def test_stages_may_be_made_again_alone() -> None:
    options = wish_of({"no-cache": "one,Two"}).options
    assert (options.no_cache, options.no_cache_stages) == (False, ["one", "two"])


def test_a_context_may_be_elsewhere() -> None:
    wish = wish_of({"context": "https://host/x.git", "contextsubdir": "a", "dockerfilekey": "d"})
    assert wish.remote == "https://host/x.git"
    assert wish.context_folder == "a"
    assert wish.dockerfile_is_local
    assert wish_of({"contextkey": "other", "other": "http://host/"}).remote == "http://host/"


def test_results_of_other_builds_are_contexts() -> None:
    made = wish_of({"context:a": "input:a", "context:b": "local:b"}, {"a": definition_of("r")})
    assert made.options.contexts == {"a": "result:r", "b": "local:b"}


@pytest.mark.parametrize(
    ("frontend", "source", "ours"),
    [
        ("dockerfile.v0", "", True),
        ("gateway.v0", "docker/dockerfile:1", True),
        ("gateway.v0", "docker.io/docker/dockerfile-upstream:master", True),
        ("gateway.v0", "docker/dockerfile:1@sha256:ab", True),
        ("gateway.v0", "other/dockerfile", False),
        ("gateway.v0", "docker/dockerfile/more", False),
        ("gateway.v0", "", False),
        ("other", "docker/dockerfile", False),
    ],
)
def test_only_what_reads_dockerfiles_is_a_front_end(frontend: str, source: str, ours: bool) -> None:
    assert is_ours(frontend, {"source": source}) is ours
