"""Text features: values by hand, scripts without spaces, and texts that are meant to harm."""

import math
import time

import pytest

from judging.text_features import Feature, measure, words

SOURCE = "The cat sat on the mat."


@pytest.mark.parametrize(
    ("feature", "candidate", "value"),
    [
        ("length", "one two three", math.log(4) / math.log(1001)),
        ("length", "", 0.0),
        ("length", "word " * 1000, 1.0),
        ("length", "word " * 5000, 1.0),
        ("overlap", "The cat ran", 2 / 3),
        ("overlap", "the the the", 2 / 3),  # `the` stands twice in the source
        ("overlap", "A dog barks", 0.0),
        ("overlap", "", 0.0),
        ("novelty", "the cat sat down", 1 / 3),  # the cat, cat sat, sat down
        ("novelty", "a dog barks", 1.0),
        ("novelty", "cat", 0.0),
        ("novelty", "dog", 1.0),
        ("novelty", "👍", 0.0),
        ("repetition", "a b c d", 1.0),
        ("repetition", "a b c a b c", 3 / 4),  # abc bca cab abc
        ("repetition", "no no no no no", 1 / 3),
        ("repetition", "short", 1.0),
    ],
)
def test_values_by_hand(feature: Feature, candidate: str, value: float) -> None:
    assert measure(feature, candidate, SOURCE) == pytest.approx(value)


@pytest.mark.parametrize("feature", ["overlap", "novelty"])
@pytest.mark.parametrize("source", ["", "  \n", "?!", "_"])
def test_without_a_source_there_is_no_overlap(feature: Feature, source: str) -> None:
    assert measure(feature, "Some words", source) is None


def test_words_in_many_scripts() -> None:
    assert words("Don't STOP_now, 3.5 Äpfel!") == ["don", "t", "stop", "now", "3", "5", "äpfel"]
    assert words("空が青い sky") == ["空", "が", "青", "い", "sky"]
    assert words("ไทย") == ["ไ", "ท", "ย"]
    assert words("\U00020000\U00020001 x") == ["\U00020000", "\U00020001", "x"]
    assert words("👍👍🏽 \x00\u200b\u0301\ufe0f") == []
    assert words("a\x00b") == ["a", "b"]


def test_marks_belong_to_their_word() -> None:
    assert words("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]
    assert words("E\u0301tude e\u0301le\u0300ve") == words("Étude élève") == ["étude", "élève"]
    assert words("\u1112\u1161\u11ab \u1100\u1173\u11af") == words("한 글") == ["한", "글"]  # Hangul in single letters
    assert words("ที่นี่") == ["ที่", "นี่"]
    assert measure("overlap", "e\u0301le\u0300ve", "Élève") == 1


@pytest.mark.parametrize("feature", ["length", "overlap", "novelty", "repetition"])
@pytest.mark.parametrize(
    "text", ["a" * 3_000_000, "a " * 1_000_000, "空" * 1_000_000, "\x00" * 3_000_000, "a\u0301\u0316" * 500_000]
)
def test_long_texts_take_linear_time_and_stay_in_the_range(feature: Feature, text: str) -> None:
    began = time.process_time()
    value = measure(feature, text, SOURCE)
    assert value is not None
    assert 0 <= value <= 1
    assert time.process_time() - began < 20
