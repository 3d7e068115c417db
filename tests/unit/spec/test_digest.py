"""Digests and chain ids."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.errors import InvalidArgument
from sampan.spec.digest import (
    EMPTY_LAYER,
    algorithm,
    chain_id,
    chain_ids,
    digest_of,
    encoded,
    parse_digest,
)


def test_a_digest_is_algorithm_and_hexadecimal_digits() -> None:
    digest = digest_of(b"hello")
    assert parse_digest(digest) == digest
    assert algorithm(digest) == "sha256"
    assert encoded(digest) == hashlib.sha256(b"hello").hexdigest()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "invalid checksum digest format"),
        ("sha256:", "invalid checksum digest format"),
        ("sha256:xyz", "invalid checksum digest length"),
        ("sha256:" + "g" * 64, "invalid checksum digest format"),
        ("sha256:" + "A" * 64, "invalid checksum digest format"),
        ("md5:" + "a" * 32, "unsupported digest algorithm"),
        ("sha256:" + "a" * 64 + "\n", "invalid checksum digest format"),
        ("sha256:../../etc/passwd", "invalid checksum digest format"),
    ],
)
def test_what_is_no_digest_is_refused_in_the_words_of_go_digest(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgument, match=problem):
        parse_digest(text)


@given(st.text())
def test_no_text_makes_the_parser_fail_otherwise(text: str) -> None:
    try:
        assert parse_digest(text) == text
    except InvalidArgument:
        pass


def test_the_chain_id_of_one_layer_is_its_diff_id() -> None:
    assert chain_id([EMPTY_LAYER]) == EMPTY_LAYER
    assert chain_id([]) is None


def test_chain_ids_are_made_of_the_chain_below_and_the_diff_id() -> None:
    one, two, three = (digest_of(bytes([n])) for n in range(3))
    chains = list(chain_ids([one, two, three]))
    assert chains[0] == one
    assert chains[1] == digest_of(f"{one} {two}".encode())
    assert chains[2] == digest_of(f"{chains[1]} {three}".encode()) == chain_id([one, two, three])


def test_the_empty_layer_is_two_blocks_of_zeros() -> None:
    assert digest_of(bytes(1024)) == EMPTY_LAYER
