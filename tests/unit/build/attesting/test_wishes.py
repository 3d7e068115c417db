from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.attesting.wishes import (
    GENERATOR,
    AttestationWishes,
    ProvenanceWish,
    SbomWish,
    attestations_of,
)
from sampan.errors import InvalidArgument


def test_what_is_not_asked_for_is_not_made() -> None:
    assert attestations_of({"build-arg:A": "1"}) == AttestationWishes()


def test_nothing_more_said_is_all_of_it() -> None:
    wishes = attestations_of({"attest:provenance": "", "build-arg:BUILDKIT_ATTEST_SBOM": ""})
    assert wishes.provenance == ProvenanceWish(whole=True, version="v1")
    assert wishes.sbom == SbomWish(GENERATOR)


def test_values_are_csv() -> None:
    wishes = attestations_of({
        "attest:provenance": "mode=min,inline-only=true,builder-id=me,filename=p.json",
        "attest:sbom": 'generator=a/b,"WORDS=x,y"',
    })  # fmt: skip
    assert wishes.provenance == ProvenanceWish(
        whole=False, inline_only=True, builder="me", filename="p.json"
    )
    assert wishes.sbom == SbomWish("a/b", {"WORDS": "x,y"})


@pytest.mark.parametrize(
    "text", ["mode=x", "version=v3", "filename=../x", "filename=", "reproducible=x", '"a=b']
)
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        attestations_of({"attest:provenance": text})


@given(st.dictionaries(st.sampled_from(["attest:provenance", "attest:sbom", "attest:x"]),
                       st.text(alphabet='mode=,"x\n\r\0 max')))  # fmt: skip
def test_no_text_makes_anything_else(attributes: dict[str, str]) -> None:
    try:
        attestations_of(attributes)
    except InvalidArgument:
        pass
