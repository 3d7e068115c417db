"""Which entry of an index is taken."""

from __future__ import annotations

import pytest

from sampan.engine.images.distribution.choosing import _entry
from sampan.spec.image import Descriptor
from sampan.spec.platform import Platform, PlatformBody


@pytest.mark.parametrize("variant", ["v" + "9" * 5000, "9" * 4999])
def test_a_variant_of_many_digits_is_like_any_other_unknown_one(variant: str) -> None:
    entries = [
        Descriptor(
            digest=f"sha256:{letter * 64}",
            size=1,
            platform=PlatformBody(os="linux", architecture="arm", variant=it),
        )
        for letter, it in (("a", variant), ("b", "v7"))
    ]
    assert _entry(entries, Platform.of("linux", "arm", "v7")) is entries[1]
