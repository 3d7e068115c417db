"""The version is said once."""

from __future__ import annotations

import sampan
from sampan.spec.versions import API_VERSION, MIN_API_VERSION, VERSION


def test_the_package_has_the_version_of_its_programs() -> None:
    assert sampan.__version__ == VERSION


def test_the_oldest_api_is_older_than_the_newest() -> None:
    oldest, newest = (tuple(map(int, it.split("."))) for it in (MIN_API_VERSION, API_VERSION))
    assert oldest < newest
