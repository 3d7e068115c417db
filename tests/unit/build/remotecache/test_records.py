from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.remotecache.records import (
    Blob,
    Step,
    parse_inline,
    parse_records,
    write_inline,
    write_records,
)
from sampan.errors import InvalidArgument
from sampan.spec.digest import digest_of
from sampan.spec.image import Descriptor

DIFFS = [digest_of(bytes([number])) for number in range(4)]
BLOBS = [Blob(Descriptor(digest=digest_of(b"z" + one.encode()), size=9), one) for one in DIFFS]
FORMS = {blob.diff_id: blob.descriptor for blob in BLOBS}
KNOWN = {blob.descriptor.digest: blob for blob in BLOBS}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.text(max_size=3)
    | st.sampled_from(["sha256:" + "a" * 64, "2020-01-01T00:00:00Z", BLOBS[0].descriptor.digest]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["layers", "records", "blob", "parent", "chains", "digest", "layer",
                         "createdAt"]),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


def key(letter: str) -> str:
    return letter * 64


@st.composite
def steps(draw: st.DrawFn) -> dict[str, Step]:
    paths = st.lists(st.sampled_from(DIFFS), max_size=5).map(tuple)
    made = st.builds(Step, st.integers(0, 2**60), paths)
    return draw(st.dictionaries(st.sampled_from([key(one) for one in "0123456789"]), made))


@given(steps())
def test_what_was_written_is_read(written: dict[str, Step]) -> None:
    read = parse_records(write_records(written, FORMS), KNOWN)
    assert {
        name: Step(created, tuple(blob.diff_id for blob in blobs))
        for name, (created, blobs) in read.items()
    } == written


def test_an_image_tells_of_steps_that_have_its_layers() -> None:
    made = {
        key("a"): Step(1, DIFFS[:1]), key("b"): Step(2, DIFFS[:2]), key("c"): Step(3),
        key("d"): Step(4, [DIFFS[1]]),
    }  # fmt: skip
    read = parse_inline(write_inline(made, DIFFS[:2]), BLOBS[:2])
    assert {name: len(blobs) for name, (_, blobs) in read.items()} == {
        key("a"): 1, key("b"): 2, key("c"): 0,
    }  # fmt: skip


def test_layers_that_the_manifest_does_not_have_are_left_out() -> None:
    content = write_records({key("a"): Step(1, DIFFS[:2])}, FORMS)
    del (some := dict(KNOWN))[BLOBS[0].descriptor.digest]
    assert parse_records(content, some) == {}


def test_records_of_others_are_left_out() -> None:
    records = [{"digest": "sha256:x"}, {"inputs": [[{"link": 0, "selector": "s"}]]}]
    assert parse_records(json.dumps({"records": records}).encode(), {}) == {}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"layers": [{"blob": "x", "parent": 0}], "records": []},
        {"layers": [{"blob": "x", "parent": 1}, {"blob": "x", "parent": 0}]},
        {"layers": [{"blob": "x", "parent": -2}]},
        {"layers": [{"blob": "x", "parent": one - 1} for one in range(200)]},
        {"layers": [{"blob": "x", "parent": -1}] * 5000},
        {"records": [{"digest": f"sha256:{key('a')}", "layers": [{"layer": 0}]}]},
        {"records": [{"digest": f"sha256:{key('a')}", "chains": [{"layers": [-1]}]}]},
        {"records": [{"digest": f"sha256:{key('a')}", "chains": [{"layers": []}]}]},
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(document: object) -> None:
    with pytest.raises(InvalidArgument):
        parse_records(json.dumps(document).encode(), KNOWN)


@given(JSON | st.binary())
def test_nothing_else_comes_of_any_document(document: object) -> None:
    content = document if isinstance(document, bytes) else msgspec.json.encode(document)
    for parse in (lambda: parse_records(content, KNOWN), lambda: parse_inline(content, BLOBS)):
        try:
            parse()
        except InvalidArgument:
            pass
