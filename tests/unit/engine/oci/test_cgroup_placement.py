from __future__ import annotations

import pytest

from sampan.engine.oci.cgroup_placement import CgroupPlacement
from sampan.errors import InvalidArgument

SYSTEMD = CgroupPlacement("systemd")


@pytest.mark.parametrize(
    ("placement", "parent", "path"),
    [
        (CgroupPlacement(), "", "/sampan/id"),
        (CgroupPlacement(), "/mine", "/mine/id"),
        (CgroupPlacement(), "mine.slice", "/mine.slice/id"),
        (CgroupPlacement(), "../../x/", "/x/id"),
        (CgroupPlacement(), "//mine/", "/mine/id"),
        (CgroupPlacement(parent="/all"), "", "/all/id"),
        (CgroupPlacement(parent="/all"), "/mine", "/mine/id"),
        (SYSTEMD, "", "/system.slice/sampan-id.scope"),
        (SYSTEMD, "a-b.slice", "/a.slice/a-b.slice/sampan-id.scope"),
        (SYSTEMD, "-.slice", "/sampan-id.scope"),
        (CgroupPlacement("systemd", "all.slice"), "", "/all.slice/sampan-id.scope"),
    ],
)
def test_a_container_is_below_its_parent(
    placement: CgroupPlacement, parent: str, path: str
) -> None:
    placement.check(parent)
    assert placement.path("id", parent) == path


@pytest.mark.parametrize("parent", ["/mine", "mine", ".slice", "a/b.slice", "a--b.slice"])
def test_systemd_has_slices_only(parent: str) -> None:
    with pytest.raises(InvalidArgument, match="slice"):
        SYSTEMD.check(parent)
