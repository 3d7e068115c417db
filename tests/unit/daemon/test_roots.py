"""What must be there before a daemon starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.daemon.configuration.flags import UsageError
from sampan.daemon.roots import check_cgroups

LINE = "36 35 0:{} / {} rw,nosuid - {} none rw\n"


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_cgroups_of_either_version_will_do(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(LINE.format(1, "/sys", "sysfs") + LINE.format(2, "/sys/fs/cgroup", kind))
    check_cgroups(str(file))


def test_without_cgroups_the_reason_and_the_way_out_are_told(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(LINE.format(1, "/sys", "sysfs") + LINE.format(2, "/cgroup", "tmpfs"))
    with pytest.raises(UsageError, match=r"no cgroups are mounted .* use `nsenter --net="):
        check_cgroups(str(file))
