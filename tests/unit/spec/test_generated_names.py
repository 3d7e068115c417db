"""Generated names."""

from __future__ import annotations

from sampan.spec.generated_names import ADJECTIVES, NOUNS, generate_name
from sampan.spec.names import NAME


def test_every_name_is_a_valid_name_of_two_words() -> None:
    for _ in range(200):
        name = generate_name()
        adjective, noun = name.split("_")
        assert NAME.fullmatch(name)
        assert adjective in ADJECTIVES
        assert noun in NOUNS


def test_a_second_try_ends_in_a_digit() -> None:
    assert generate_name(1)[-1].isdigit()


def test_no_word_is_there_twice_and_there_are_enough_of_them() -> None:
    assert len(set(ADJECTIVES)) == len(ADJECTIVES)
    assert len(set(NOUNS)) == len(NOUNS)
    assert len(ADJECTIVES) * len(NOUNS) > 10_000
