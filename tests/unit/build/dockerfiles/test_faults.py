"""Where errors come from."""

from __future__ import annotations

import pytest

from sampan.build.dockerfiles.dockerfile import parse_dockerfile
from sampan.build.dockerfiles.faults import Fault, fault_of, mark, sentence_of
from sampan.errors import InvalidArgument


def test_an_error_keeps_its_place_beside_its_text() -> None:
    text = b"FROM a\r\nRUN \\\r\n  x\nFOO\n"
    with pytest.raises(InvalidArgument) as raised:
        parse_dockerfile(text, "Recipe")
    sentence = "dockerfile parse error on line 4: unknown instruction: FOO (did you mean FROM?)"
    assert fault_of(raised.value) == Fault(sentence, "Recipe", text, 4, 4)
    assert sentence_of(raised.value) == sentence
    assert str(raised.value).startswith(f"{sentence}\nRecipe:4\n-----")


def test_other_errors_have_none() -> None:
    error = InvalidArgument("no")
    assert fault_of(error) is None
    assert mark(error, None) is error
    assert sentence_of(error) == "no"
