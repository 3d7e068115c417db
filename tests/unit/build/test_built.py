"""A Dockerfile as others may see it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.built import Recipe


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"ADD https://me:pw@host/x.git /x\n", b"ADD https://xxxxx:xxxxx@host/x.git /x\n"),
        (b"RUN a 'https://t@h/' \\\r\n b", b"RUN a 'https://xxxxx@h/' \\\r\n b"),
        (b"LABEL a=\xff@\xfe me@host:22", b"LABEL a=\xff@\xfe me@host:22"),
    ],
)
def test_passwords_of_addresses_are_hidden_and_nothing_else(content: bytes, shown: bytes) -> None:
    assert Recipe(content, "Dockerfile").shown == shown


@given(st.binary())
def test_every_line_stays_where_it_is(content: bytes) -> None:
    assert Recipe(content, "Dockerfile").shown.count(b"\n") == content.count(b"\n")
