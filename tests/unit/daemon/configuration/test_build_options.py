"""The member `builder.gc` of daemon.json."""

from __future__ import annotations

from typing import Any

import pytest

from sampan.daemon.configuration.build_options import gc_policies
from sampan.daemon.configuration.flags import UsageError
from sampan.spec.build import GCPolicy

HOUR = 3600 * 10**9


@pytest.mark.parametrize(
    ("collection", "expected"),
    [
        ({}, None),
        ({"policy": []}, None),
        ({"enabled": True}, None),
        ({"enabled": False}, []),
        (
            {"policy": [{"keepStorage": "1GB", "filter": ["unused-for=48h", "type=x"]}]},
            [GCPolicy(reserved=1 << 30, keep_duration=48 * HOUR, filters=("type==x",))],
        ),
        (
            {"policy": [{"all": True, "maxUsedSpace": 5, "keepDuration": "2d"}]},
            [GCPolicy(all=True, max_used=5, keep_duration=48 * HOUR)],
        ),
    ],
)
def test_policies_are_read(collection: dict[str, Any], expected: list[GCPolicy] | None) -> None:
    assert gc_policies(collection) == expected


def test_defaults_make_three_policies() -> None:
    found = gc_policies({"defaultKeepStorage": "20GB", "defaultMinFreeSpace": 7})
    assert found is not None
    assert [(one.all, one.reserved, one.min_free) for one in found] == [
        (False, 20 << 30, 7),
        (False, 20 << 30, 7),
        (True, 20 << 30, 7),
    ]


@pytest.mark.parametrize(
    ("collection", "sentence"),
    [
        ({"other": 1}, "builder.gc: unknown key other"),
        ({"policy": [1]}, "builder.gc.policy must be an object, not 1"),
        ({"policy": {}}, ""),
        ({"policy": [{"x": 1}]}, "builder.gc.policy: unknown key x"),
        ({"policy": [{"maxUsedSpace": "lots"}]}, "builder.gc.policy: maxUsedSpace"),
        ({"policy": [{"maxUsedSpace": True}]}, "maxUsedSpace must be bytes, not true"),
        ({"policy": [{"keepDuration": "x"}]}, "invalid duration 'x'"),
        ({"policy": [{"filter": [1]}]}, "filter must be a list of strings"),
    ],
)
def test_what_cannot_be_is_refused(collection: dict[str, Any], sentence: str) -> None:
    if not sentence:
        assert gc_policies(collection) is None
        return
    with pytest.raises(UsageError, match=sentence):
        gc_policies(collection)
