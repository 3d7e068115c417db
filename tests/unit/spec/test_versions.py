"""The version is said once."""

from __future__ import annotations

from pathlib import Path

import sampan
from sampan.spec.versions import API_VERSION, MIN_API_VERSION, VERSION


def test_no_other_module_says_it() -> None:
    package = Path(sampan.__file__).parent
    saying = [path for path in package.rglob("*.py") if f'"{VERSION}"' in path.read_text()]
    assert saying == [package / "spec/versions.py"]
    assert sampan.__version__ == VERSION


def test_the_oldest_api_is_older_than_the_newest() -> None:
    oldest, newest = (tuple(map(int, it.split("."))) for it in (MIN_API_VERSION, API_VERSION))
    assert oldest < newest
