"""What is checked before anything is made."""

from __future__ import annotations

import pytest

from sampan.errors import InvalidArgument
from sampan.linux import namespaces
from sampan.runtime.starting import prepare
from sampan.runtime.starting.direct import is_possible
from sampan.runtime.starting.requests import LaunchRequest
from sampan.spec.runtime import (
    Hook,
    Hooks,
    Linux,
    LinuxIDMapping,
    LinuxNamespace,
    LinuxTimeOffset,
    Mount,
    Process,
    Spec,
)


def request(spec: Spec | None = None, **more: object) -> LaunchRequest:
    """Return a request for a small container."""
    spec = spec or Spec(process=Process(args=["true"]), linux=Linux())
    return LaunchRequest(id="x", spec=spec, root="/nowhere", **more)  # type: ignore[arg-type]


def with_linux(**linux: object) -> Spec:
    """Return a specification with these Linux settings."""
    return Spec(process=Process(args=["true"]), linux=Linux(**linux))  # type: ignore[arg-type]


def test_a_mount_namespace_is_made_even_if_it_is_not_named() -> None:
    assert prepare.plan_namespaces(request()).new == {"mount"}


def test_joined_namespaces_come_early_only_if_they_must() -> None:
    network = LinuxNamespace(type="network", path="/proc/self/ns/net")
    pid = LinuxNamespace(type="pid", path="/proc/self/ns/pid")
    late = prepare.plan_namespaces(request(with_linux(namespaces=[network])))
    early = prepare.plan_namespaces(request(with_linux(namespaces=[network, pid])))
    user = LinuxNamespace(type="user")
    lost = prepare.plan_namespaces(request(with_linux(namespaces=[network, user])))
    assert (len(late.early), len(late.late)) == (0, 1)
    assert (len(early.early), len(early.late)) == (2, 0)
    assert (len(lost.early), len(lost.late)) == (1, 0)


def test_a_process_is_needed() -> None:
    wanted = request(Spec(linux=Linux()))
    with pytest.raises(InvalidArgument, match="process property must not be empty"):
        prepare.setup(wanted, prepare.plan_namespaces(wanted), None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (with_linux(rootfs_propagation="sideways"), 'rootfsPropagation="sideways"'),
        (Spec(process=Process(args=["x"]), mounts=[Mount(destination="")]), "no destination"),
        (Spec(process=Process(args=["x"]), mounts=[Mount(destination="/a")]), "has no source"),
        (
            Spec(process=Process(args=["x"]), mounts=[Mount(destination="/a", source="b\0c")]),
            "contains a NUL byte",
        ),
        (
            Spec(process=Process(args=["x"]), hooks=Hooks(create_container=[Hook(path="rel")])),
            "must be absolute",
        ),
    ],
)
def test_a_broken_specification_is_refused(spec: Spec, message: str) -> None:
    wanted = request(spec)
    with pytest.raises(InvalidArgument, match=message):
        prepare.setup(wanted, prepare.plan_namespaces(wanted), None)


def test_relative_bind_sources_start_at_the_bundle() -> None:
    mounts = [Mount(destination="a", source="data", options=["bind"])]
    spec = Spec(process=Process(args=["x"]), mounts=mounts)
    wanted = request(spec, bundle="/bundle")
    setup, _ = prepare.setup(wanted, prepare.plan_namespaces(wanted), None)
    assert (setup.mounts[0].source, setup.mounts[0].destination) == (b"/bundle/data", b"/a")


def test_id_maps_and_clock_offsets_are_written_as_the_kernel_reads_them() -> None:
    assert prepare.id_map([LinuxIDMapping(container_id=0, host_id=7, size=9)]) == b"0 7 9\n"
    offsets = {"boottime": LinuxTimeOffset(secs=-5, nanosecs=3)}
    assert prepare.time_offsets(Linux(time_offsets=offsets)) == b"boottime -5 3\n"


@pytest.mark.parametrize(
    ("spec", "more", "direct"),
    [
        (None, {}, True),
        (None, {"hold": True}, False),
        (None, {"console_socket": "/x"}, False),
        (None, {"pull_in": {"pid": 1}}, False),
        (None, {"pull_in": {"ipc": 1}}, True),
        (with_linux(namespaces=[LinuxNamespace(type="user")]), {}, False),
        (with_linux(time_offsets={"boottime": LinuxTimeOffset(secs=1)}), {}, False),
        (Spec(process=Process(), hooks=Hooks(prestart=[Hook(path="/x")])), {}, False),
        (Spec(process=Process(), hooks=Hooks(poststop=[Hook(path="/x")])), {}, True),
        (Spec(mounts=[Mount(destination="/x", options=["bind", "idmap"])]), {}, False),
    ],
)
def test_a_supervisor_is_made_only_where_it_is_needed(
    monkeypatch: pytest.MonkeyPatch, spec: Spec | None, more: dict[str, object], direct: bool
) -> None:
    monkeypatch.setattr(namespaces, "is_single_threaded", lambda: True)
    assert is_possible(request(spec, **more)) is direct
