from __future__ import annotations

import pytest

from sampan.build.attesting.statements import Attestation, package_url, subject
from sampan.spec.platform import Platform
from sampan.spec.reference import Reference

AMD = Platform("linux", "amd64")
DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("name", "platform", "url"),
    [
        ("busybox", AMD, "pkg:docker/busybox@latest?platform=linux%2Famd64"),
        ("busybox:1", None, "pkg:docker/busybox@1"),
        ("me/app:1", None, "pkg:docker/me/app@1"),
        ("localhost:5000/a/b:2", None, "pkg:docker/localhost%3A5000/a/b@2"),
        (f"golang:1@{DIGEST}", AMD,
         f"pkg:docker/golang@1?digest={DIGEST}&platform=linux%2Famd64"),
        (f"golang@{DIGEST}", None, f"pkg:docker/golang?digest={DIGEST}"),
    ],
)  # fmt: skip
def test_images_have_package_urls(name: str, platform: Platform | None, url: str) -> None:
    assert package_url(Reference.parse(name), platform) == url


def test_a_statement_is_about_what_it_is_attached_to_unless_it_says_otherwise() -> None:
    mine, yours = subject("mine", DIGEST), subject("yours", DIGEST)
    assert mine == {"name": "mine", "digest": {"sha256": "a" * 64}}
    said = Attestation("https://type", {"a": 1}, "file").statement([mine])
    assert said == {
        "_type": "https://in-toto.io/Statement/v1",
        "predicateType": "https://type",
        "subject": [mine],
        "predicate": {"a": 1},
    }
    own = Attestation("https://type", {}, "file", subjects=[yours]).statement([mine])
    assert own["subject"] == [yours]
