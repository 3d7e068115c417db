"""Mount options, compiled."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sampan.linux import mounts as m
from sampan.runtime.roots.options import (
    ATTRIBUTES,
    IGNORED,
    PROPAGATION,
    RECURSIVE_ATTRIBUTES,
    Planned,
    plan,
)
from sampan.spec.runtime import LinuxIDMapping, Mount


def planned(*options: str, kind: str = "tmpfs") -> Planned:
    return plan(Mount(destination="/x", type=kind, source="s", options=list(options)))


def test_attributes_are_collected_and_the_last_one_wins() -> None:
    result = planned("nosuid", "ro", "noexec", "rw")
    assert result.attr_set == m.MOUNT_ATTR_NOSUID | m.MOUNT_ATTR_NOEXEC
    assert result.attr_clr == m.MOUNT_ATTR_RDONLY
    assert planned("noatime", "strictatime").attr_set == m.MOUNT_ATTR_STRICTATIME
    assert planned("rw", "ro").is_read_only


def test_recursive_attributes_are_kept_apart() -> None:
    result = planned("rro", "nodev", kind="bind")
    assert (result.all_set, result.attr_set) == (m.MOUNT_ATTR_RDONLY, m.MOUNT_ATTR_NODEV)
    assert result.is_read_only


def test_a_bind_is_made_by_its_option_whatever_its_type_says() -> None:
    assert (planned("bind", kind="none").kind, planned("rbind").recursive) == ("bind", True)
    assert plan(Mount(destination="/x", source="/y")).kind == "bind"


def test_what_is_no_flag_goes_to_the_file_system() -> None:
    assert planned("size=1m", "newinstance", "defaults", "sync").data == [
        (b"size", b"1m"),
        (b"newinstance", None),
        (b"sync", None),
    ]


def test_propagations_are_applied_in_order() -> None:
    assert planned("rslave", "shared").propagation == [(m.MS_SLAVE, True), (m.MS_SHARED, False)]


def test_an_idmap_without_mappings_takes_those_of_the_container() -> None:
    maps = (
        [LinuxIDMapping(container_id=0, host_id=5)],
        [LinuxIDMapping(container_id=0, host_id=6)],
    )
    mount = Mount(destination="/x", source="/y", options=["bind", "ridmap"])
    assert (plan(mount, maps).id_maps, plan(mount, maps).id_map_all) == (maps, True)
    own = [LinuxIDMapping(container_id=1, host_id=7)]
    mount.uid_mappings = mount.gid_mappings = own
    assert plan(mount, maps).id_maps == (own, own)


def test_no_option_has_two_meanings() -> None:
    tables = [set(ATTRIBUTES), set(RECURSIVE_ATTRIBUTES), set(PROPAGATION), IGNORED]
    assert sum(map(len, tables)) == len(set().union(*tables))


@given(st.lists(st.text(max_size=20) | st.sampled_from([*ATTRIBUTES, *PROPAGATION]), max_size=8))
def test_any_options_compile(options: list[str]) -> None:
    result = planned(*options)
    assert not result.attr_set & result.attr_clr & ~m.MOUNT_ATTR_ATIME
