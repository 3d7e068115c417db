"""Manifests and configurations of anybody's making."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sampan.registry.registry import Registry
from sampan.registry.web.images import MANY, TEXT, describe
from tests.own_registry import serving

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
KEYS = ("os", "architecture", "created", "config", "history")
INNER = ("Env", "Cmd", "Labels", "User", "ExposedPorts", "Volumes")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(st.sampled_from(KEYS), JSON),
    st.dictionaries(st.sampled_from(INNER), JSON),
    st.booleans(),
)
def test_any_configuration_is_described(
    document: dict[str, Any], inner: dict[str, Any], nested: bool
) -> None:
    text = json.dumps({**document, **({"config": inner} if nested else {})}).encode()
    with Registry.in_memory() as registry, serving(registry) as shop:
        digest = shop.push("app", "1", config=text)
        assert describe(registry, "app", "1").digest == digest


def test_there_is_an_end_to_what_is_shown() -> None:
    config = {"config": {"Env": ["x" * 4100] * 600, "Labels": {str(n): "x" for n in range(2000)}}}
    with Registry.in_memory() as registry, serving(registry) as shop:
        shop.push("app", "1", config=json.dumps(config).encode())
        image = describe(registry, "app", "1")
    ((_, values),) = image.settings
    assert (len(values), len(values[0]), len(image.labels)) == (MANY, TEXT + 1, MANY)
