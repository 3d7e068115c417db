"""Image references, as Docker reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.spec.reference import Reference, from_repo_and_tag, parse_any

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("alpine", "docker.io/library/alpine", "alpine"),
        ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
        ("library/alpine", "docker.io/library/alpine", "alpine"),
        ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("docker.io/library/alpine", "docker.io/library/alpine", "alpine"),
        ("index.docker.io/a/b:1", "docker.io/a/b:1", "a/b:1"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/a/b:tag", "localhost:5000/a/b:tag", "localhost:5000/a/b:tag"),
        ("localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("ghcr.io/x/y", "ghcr.io/x/y", "ghcr.io/x/y"),
        ("Upper/app", "Upper/app", "Upper/app"),
        ("a__b/c-d.e", "docker.io/a__b/c-d.e", "a__b/c-d.e"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"a:1@{DIGEST}", f"docker.io/library/a:1@{DIGEST}", f"a:1@{DIGEST}"),
    ],
)
def test_a_reference_is_completed_and_shortened(text: str, whole: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == whole
    assert reference.familiar == familiar
    assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "invalid reference format"),
        (":", "invalid reference format"),
        ("alpine:", "invalid reference format"),
        ("-alpine", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a/../b", "invalid reference format"),
        ("a:b:c", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("alpine\n", "invalid reference format"),
        ("alpine@sha256:abc", "invalid reference format"),
        ("Alpine", r"repository name \(library/Alpine\) must be lowercase"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a/" * 128 + "a", "must not be more than 255 characters"),
        ("x" * 5000, "invalid reference format"),
        (HEX, "cannot specify 64-byte hexadecimal strings"),
    ],
)
def test_what_is_no_reference_is_refused_in_dockers_words(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        Reference.parse(text)


@given(st.text(max_size=60) | st.from_regex(r"[a-z.:/@_-]{0,40}", fullmatch=True))
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except InvalidArgument:
        return
    assert Reference.parse(str(reference)) == reference
    assert Reference.parse(reference.familiar) == reference


def test_the_default_tag_is_added_only_to_a_bare_name() -> None:
    assert Reference.parse("a").with_default_tag().familiar == "a:latest"
    assert Reference.parse("a:1").with_default_tag().familiar == "a:1"
    assert Reference.parse(f"a@{DIGEST}").with_default_tag().tag == ""


def test_an_image_is_called_by_a_name_a_digest_or_64_digits() -> None:
    assert parse_any(HEX) == DIGEST
    assert parse_any(DIGEST) == DIGEST
    assert parse_any("alpine") == Reference.parse("alpine")
    assert parse_any("sha256:abc") == Reference.parse("sha256:abc")


def test_repo_and_tag_make_a_reference() -> None:
    assert from_repo_and_tag("", "1") is None
    made = from_repo_and_tag("a", "")
    assert made is not None
    assert made.familiar == "a:latest"
    other = from_repo_and_tag("a:1", "2")
    assert other is not None
    assert other.familiar == "a:2"
    with pytest.raises(InvalidArgument, match="cannot import digest reference"):
        from_repo_and_tag(f"a@{DIGEST}", "")
    with pytest.raises(InvalidArgument, match="invalid tag format"):
        from_repo_and_tag("a", "-x")
