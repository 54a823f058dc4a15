import dataclasses
import math
import pickle

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judging.records import Record, Scale, Score, Verdict, content_id

POINTS = st.floats(-1e6, 1e6)
SCALES = st.tuples(POINTS, POINTS).filter(lambda ends: ends[0] < ends[1]).map(lambda ends: Scale(*ends))
TEXT = st.text(max_size=20)
RECORDS = st.builds(
    Record,
    id=TEXT,
    task=TEXT,
    group=TEXT,
    source=TEXT,
    candidate=TEXT,
    system=TEXT,
    dataset=TEXT,
    fields=st.dictionaries(TEXT, TEXT, max_size=3),
    scores=st.dictionaries(TEXT, POINTS, max_size=3),
    scales=st.dictionaries(TEXT, SCALES, max_size=3),
    ratings=st.dictionaries(TEXT, st.lists(POINTS | st.none(), max_size=3).map(tuple), max_size=3),
)


@pytest.mark.parametrize("ends", [(5, 1), (1, 1), (math.nan, 5), (1, math.nan), (1, math.inf), (-math.inf, 1)])
def test_a_scale_goes_from_low_to_high(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="lower to a higher"):
        Scale(*ends)


@pytest.mark.parametrize(
    ("scale", "labels"),
    [
        (Scale(1, 5), ("1", "2", "3", "4", "5")),
        (Scale(0, 1), ("0", "1")),
        (Scale(-1, 1), ("-1", "0", "1")),
        (Scale(0.5, 2.5), ("1", "2")),  # only whole numbers inside
        (Scale(0.2, 0.8), ()),
    ],
)
def test_labels_are_the_whole_numbers_of_the_scale(scale: Scale, labels: tuple[str, ...]) -> None:
    assert scale.labels() == labels


def test_both_ends_belong_to_the_scale_and_nothing_beyond_them() -> None:
    scale = Scale(1, 5)
    assert all(value in scale for value in (1, 1.0, 2.5, 5))
    assert not any(value in scale for value in (0.999, 5.001, -3, math.nan, math.inf, -math.inf))
    assert (scale.width, str(scale), str(Scale(0.5, 100))) == (4, "1 to 5", "0.5 to 100")


def test_rescale_moves_linearly() -> None:
    # 64 of 0 to 100 is 0.64 of the way: 1 + 0.64 * 4 = 3.56; 2 of 1 to 3 is half of the way: 3 of 1 to 5.
    assert Scale(0, 100).rescale(64, Scale(1, 5)) == pytest.approx(3.56)
    assert Scale(1, 3).rescale(2, Scale(1, 5)) == 3
    assert [Scale(1, 3).rescale(end, Scale(0, 10)) for end in (1, 3)] == [0, 10]
    assert Scale(1, 5).rescale(3.1, Scale(1, 5)) == 3.1


@pytest.mark.parametrize(
    ("low", "high", "words", "answers"),
    [
        (1, 5, "a whole number from 1 to 5", "1 2 3 4 5"),
        (-1, 1, "a whole number from -1 to 1", "-1 0 1"),
        (0.5, 2, "a number from 0.5 to 2 in steps of 0.5", "0.5 1 1.5 2"),
        (0, 0.4, "a number from 0 to 0.4 in steps of 0.1", "0 0.1 0.2 0.3 0.4"),
        (0.25, 1, "a number from 0.25 to 1 in steps of 0.25", "0.25 0.5 0.75 1"),
        (0.03, 0.05, "a number from 0.03 to 0.05 in steps of 0.01", "0.03 0.04 0.05"),
    ],
)
def test_what_a_judge_may_answer(low: float, high: float, words: str, answers: str) -> None:
    assert Scale(low, high).in_words() == words
    assert Scale(low, high).answers() == tuple(answers.split())


def test_a_score_on_another_scale() -> None:
    one = Record(
        "a",
        "qa",
        "g",
        "s",
        "c",
        scores={"overall": 9, "utility": 2},
        scales={"overall": Scale(1, 9), "utility": Scale(1, 5)},
    )
    assert (one.score_on("overall", Scale(1, 5)), one.score_on("utility", Scale(0, 100))) == (5, 25)


@given(SCALES, st.floats(0, 1), SCALES)
def test_rescale_and_back(scale: Scale, share: float, to: Scale) -> None:
    value = scale.low + share * scale.width
    there = scale.rescale(value, to)
    assert to.low - 1e-6 <= there <= to.high + 1e-6
    if min(scale.width, to.width) > 1e-3:
        assert to.rescale(there, scale) == pytest.approx(value, abs=1e-3 + 1e-6 * scale.width)


@given(RECORDS)
def test_a_record_survives_its_row(record: Record) -> None:
    row = record.to_row()
    assert all(isinstance(value, str) for value in row.values())
    assert Record.from_row(row) == record


@given(RECORDS)
def test_a_record_survives_arrow(record: Record) -> None:
    schema = pa.schema([(name, pa.large_string()) for name in record.to_row()])
    table = pa.Table.from_pylist([record.to_row()], schema=schema)
    assert Record.from_row(table.to_pylist()[0]) == record


def test_rows_of_all_tasks_have_the_same_columns() -> None:
    bare = Record("i", "qa", "g", "s", "c")
    rich = Record("i", "qa", "g", "s", "c", fields={"fact": "f"}, scores={"o": 1}, scales={"o": Scale(0, 1)})
    assert list(bare.to_row()) == list(rich.to_row())
    assert Record.from_row(bare.to_row()) == bare


def test_a_rater_who_gave_no_rating_stays_none() -> None:
    record = Record("i", "qa", "g", "s", "c", ratings={"o": (3.0, None)}, scales={"o": Scale(1, 5)})
    assert Record.from_row(record.to_row()).ratings == {"o": (3.0, None)}


def test_group_key_tells_groups_of_tasks_and_data_sets_apart() -> None:
    keys = {
        Record("i", task, group, "s", "c", dataset=data).group_key for task in "ab" for data in "cd" for group in "ef"
    }
    assert len(keys) == 8
    assert Record("i", "qa", "g1", "s", "c", dataset="alce").group_key == "qa/alce/g1"


def test_near_copies_have_one_hash() -> None:
    def hashed(text: str) -> str:
        return Record("i", "qa", "g", "s", text).text_hash

    # e with an acute accent as one character and as two; without it, it is another word.
    assert hashed("caf\u00e9") == hashed("Cafe\u0301!") != hashed("cafe")


def test_content_id_is_the_same_in_every_run() -> None:
    # First 16 digits of: printf '1:a2:bc' | sha256sum
    assert content_id("a", "bc") == "5310a58788781ab2"


def test_content_id_depends_on_where_parts_end() -> None:
    ids = {content_id(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ("1:abc",))}
    assert len(ids) == 6


@given(st.lists(TEXT, max_size=3), st.lists(TEXT, max_size=3))
def test_equal_ids_mean_equal_parts(one: list[str], other: list[str]) -> None:
    assert (content_id(*one) == content_id(*other)) == (one == other)
    assert len(content_id(*one)) == 16 and set(content_id(*one)) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("score", "unscored"),
    [(None, None), (3.0, "error"), (None, "no such reason"), (3.0, "")],
    ids=["neither", "both", "unknown reason", "score and empty reason"],
)
def test_a_verdict_has_a_score_or_a_known_reason(score: float | None, unscored: str | None) -> None:
    with pytest.raises(AssertionError):
        Verdict("a", "overall", score, "parsed", unscored)


def test_zero_is_a_score() -> None:
    assert Verdict("a", "overall", 0.0, "parsed").unscored is None


def test_the_nouns_are_frozen_and_travel_between_processes() -> None:
    for noun in (
        Scale(1, 5),
        Record("i", "qa", "g", "s", "c", scales={"o": Scale(1, 5)}),
        Verdict("a", "o", None, "parsed", "timeout"),
        Score("o", 3.0, 2, 1),
    ):
        assert pickle.loads(pickle.dumps(noun)) == noun
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(noun, dataclasses.fields(noun)[0].name, "x")
