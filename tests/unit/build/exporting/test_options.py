from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.build.exporting.options import Annotation, Wishes, wishes_of
from sampan.errors import InvalidArgument, Unsupported
from sampan.spec.exports import GZIP, Compression
from sampan.spec.platform import Platform


def test_nothing_asked_for_is_what_clients_know() -> None:
    assert wishes_of("moby", {}) == Wishes(names=[], annotations=[])
    assert not wishes_of("oci", {}).inline
    assert not wishes_of("moby", {"oci-mediatypes": "false"}).artifact


def test_what_is_asked_for_is_found() -> None:
    wishes = wishes_of(
        "moby",
        {"name": "a:1,b", "push": "", "compression": "zstd", "compression-level": "3",
         "force-compression": "1", "store": "f", "danging-name-empty-only": "x"},
    )  # fmt: skip
    assert list(wishes.names) == ["a:1", "b"]
    assert (wishes.push, wishes.store, wishes.plain) == (True, False, False)
    assert wishes.compression == Compression(kind="zstd", level=3, force=True)


def test_annotations_say_where_they_go() -> None:
    wishes = wishes_of(
        "oci",
        {"annotation.b": "1", "annotation-manifest[linux/arm64/v8].a": "2",
         "annotation-index-descriptor.org.x": "3"},
    )  # fmt: skip
    assert wishes.annotations == [
        Annotation("manifest", Platform("linux", "arm64"), "a", "2"),
        Annotation("manifest", None, "b", "1"),
        Annotation("index-descriptor", None, "org.x", "3"),
    ]
    assert wishes.annotated("manifest") == {"b": "1"}
    assert wishes.annotated("manifest", Platform("linux", "arm64")) == {"a": "2", "b": "1"}


@pytest.mark.parametrize(
    "attributes",
    [{"push": "yes"}, {"compression-level": "x"}, {"compression-level": "99999999999999"},
     {"compression": "uncompressed", "compression-level": "1"},
     {"oci-artifact": "1", "oci-mediatypes": "0"}, {"rewrite-timestamp": "x"},
     {"annotation-index.a": "b", "oci-mediatypes": "0"}, {"annotation[none/x/y/z].a": "b"}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(attributes: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument):
        wishes_of("oci", attributes)


@pytest.mark.parametrize(
    "attributes",
    [{"compression": "estargz"}, {"prefer-nondist-layers": ""}, {"source-date-epoch": "1"},
     {"registry.insecure": "1"}],
)  # fmt: skip
def test_what_is_not_there_is_refused_by_name(attributes: dict[str, str]) -> None:
    with pytest.raises(Unsupported):
        wishes_of("oci", attributes)


@given(st.dictionaries(st.text() | st.just("annotation.").map(lambda x: x + "k"), st.text()))
def test_no_attributes_make_anything_else(attributes: dict[str, str]) -> None:
    try:
        assert wishes_of("moby", attributes).compression.kind == GZIP.kind
    except (InvalidArgument, Unsupported):
        pass
