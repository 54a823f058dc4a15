"""Which rated examples a prompt is learned from: by id or sampled, for which aspects, and what is refused."""

from collections.abc import Sequence

import pytest

from judging.errors import InputError
from judging.records import Record
from tests.refusals import refused
from tests.train.making import rated
from train.inversion.one_shot import Unit, units


def pool(*records: Record) -> dict[str, Record]:
    return {record.id: record for record in records}


def chosen(
    known: dict[str, Record],
    examples: tuple[str, ...] | int = 1,
    aspects: tuple[str, ...] | None = None,
    *,
    together: bool = True,
    seed: int = 0,
) -> list[Unit]:
    return units(known, examples, aspects=aspects, together=together, seed=seed)


def shape(found: Sequence[Unit]) -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    return [(one.task, one.aspects, tuple(record.id for record in one.examples)) for one in found]


MIXED = pool(
    rated("a", {"overall": 1, "utility": 2}),
    rated("b", {"overall": 3, "utility": 4}),
    rated("c", {"overall": 5}),
    rated("s", {"fluency": 1, "coherence": 2, "relevance": 5}, task="summarisation"),
)


def test_examples_by_id_make_one_unit_a_task_in_the_order_they_are_named() -> None:
    assert shape(chosen(MIXED, ("s", "b", "a"))) == [
        # Aspects in the task's order, not the record's.
        ("summarisation", ("coherence", "fluency", "relevance"), ("s",)),
        ("qa", ("overall", "utility"), ("b", "a")),
    ]


def test_the_aspects_are_those_that_all_examples_have() -> None:
    assert shape(chosen(MIXED, ("a", "c"))) == [("qa", ("overall",), ("a", "c"))]


def test_one_unit_an_aspect_where_they_are_not_together() -> None:
    assert shape(chosen(MIXED, ("a", "s"), ("utility", "relevance"), together=False)) == [
        ("qa", ("utility",), ("a",)),
        ("summarisation", ("relevance",), ("s",)),
    ]
    assert shape(chosen(MIXED, ("a", "b"), together=False)) == [
        ("qa", ("overall",), ("a", "b")),
        ("qa", ("utility",), ("a", "b")),
    ]


@pytest.mark.parametrize(
    ("examples", "aspects", "code", "named"),
    [
        (("a", "zzz"), None, "unknown_example", "'zzz'"),
        (("c",), ("overall", "utility"), "no_scores", "'c' has no human score on utility"),
        (("a",), ("fluency",), "no_scores", "(a)"),
        (("unrated",), None, "no_scores", "(unrated)"),
        (("c", "u"), None, "no_scores", "(c, u)"),
        (("empty",), None, "missing_text", "'empty' has no text for 'Question'"),
        (("blank",), None, "missing_text", "'blank' has no text for 'Answer'"),
        (("nofact",), None, "missing_text", "'nofact' has no text for 'Fact the speaker was given'"),
    ],
)
def test_an_example_that_cannot_serve_is_refused(
    examples: tuple[str, ...], aspects: tuple[str, ...] | None, code: str, named: str
) -> None:
    known = {
        **MIXED,
        **pool(
            rated("unrated", {}),
            rated("u", {"utility": 3}),
            rated("empty", {"overall": 3}, source=""),
            rated("blank", {"overall": 3}, candidate=" \n"),
            rated("nofact", {"groundedness": 1}, task="dialogue"),
        ),
    }
    with refused(code, "invert.examples", naming=named):
        chosen(known, examples, aspects)


def test_a_missing_fact_is_no_matter_to_an_aspect_that_does_not_show_it() -> None:
    known = pool(rated("r", {"overall": 1, "groundedness": 1}, task="dialogue"))
    assert shape(chosen(known, ("r",), ("overall",))) == [("dialogue", ("overall",), ("r",))]


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(InputError, match="'poetry'"):
        chosen(pool(rated("r", {"overall": 1}, task="poetry")), 1)


MANY = pool(
    *(rated(f"q{number:02d}", {"overall": 1 + number % 5}, group=f"g{number % 6}") for number in range(24)),
    *(rated(f"s{number:02d}", {"fluency": 3}, task="summarisation", group=f"h{number}") for number in range(8)),
)


@pytest.mark.parametrize("number", [1, 4, 6])
def test_drawn_examples_are_as_many_as_asked_of_each_task_each_of_another_group(number: int) -> None:
    found = chosen(MANY, number)
    assert [(one.task, len(one.examples)) for one in found] == [("qa", number), ("summarisation", number)]
    for one in found:
        assert len({record.group_key for record in one.examples}) == number


def test_the_seed_and_the_ids_alone_decide_the_draw() -> None:
    drawn = shape(chosen(MANY, 2))
    assert shape(chosen(dict(reversed(MANY.items())), 2)) == drawn
    assert len({str(shape(chosen(MANY, 2, seed=seed))) for seed in range(10)}) > 5
    # A larger draw begins with the smaller one, and another task in the pool changes nothing.
    assert shape(chosen(MANY, 5))[0][2][:2] == drawn[0][2]
    only_qa = {id: record for id, record in MANY.items() if record.task == "qa"}
    assert shape(chosen(only_qa, 2)) == drawn[:1]


def test_every_record_can_be_drawn() -> None:
    drawn = {chosen(MANY, 1, seed=seed)[0].examples[0].id for seed in range(300)}
    # 24 records, 300 draws: one is missed with a probability of 24 x (23/24)^300 = 7e-5; the seeds are fixed.
    assert len(drawn) == 24


@pytest.mark.parametrize(
    "unusable",
    [
        rated("x", {}),
        rated("x", {"utility": 3}),
        rated("x", {"overall": 3}, source=" "),
        rated("x", {"overall": 3}, candidate=""),
    ],
    ids=["unrated", "rated otherwise", "no source", "no candidate"],
)
def test_what_cannot_serve_is_not_drawn(unusable: Record) -> None:
    known = pool(unusable, rated("good", {"overall": 2, "utility": 2}))
    for seed in range(12):
        assert shape(chosen(known, 1, ("overall",), seed=seed)) == [("qa", ("overall",), ("good",))]


def test_an_example_is_drawn_that_is_rated_on_all_the_aspects_that_are_asked_for() -> None:
    known = pool(*(rated(f"half{n}", {"overall": 2}) for n in range(9)), rated("whole", {"overall": 2, "utility": 2}))
    for seed in range(12):
        found = chosen(known, 1, ("utility", "overall", "fluency"), seed=seed)
        assert shape(found) == [("qa", ("overall", "utility"), ("whole",))]


def test_a_score_on_another_tasks_aspect_is_none() -> None:
    known = pool(rated("q", {"fluency": 3}), rated("s", {"fluency": 3}, task="summarisation"))
    assert shape(chosen(known, 1, ("fluency",))) == [("summarisation", ("fluency",), ("s",))]


def test_where_no_example_of_a_task_is_whole_the_run_is_refused_and_the_task_not_left_out() -> None:
    known = pool(rated("q", {"overall": 2, "utility": 2}), rated("s", {"fluency": 3}, task="summarisation"))
    with refused("no_scores", "invert.examples", naming="'s' has no human score on overall"):
        chosen(known, 1, ("overall", "fluency"))
    with refused("missing_text", "invert.examples", naming="'x' has no text for 'Question'"):
        chosen(pool(rated("x", {"overall": 1}, source="")), 1)


@pytest.mark.parametrize(
    ("known", "number", "aspects", "code"),
    [
        (MANY, 7, None, "not_enough_groups"),
        (MANY, 1, ("empathy",), "no_scores"),
        ({}, 1, None, "no_scores"),
        (pool(rated("r", {})), 1, None, "no_scores"),
    ],
)
def test_a_pool_with_too_few_examples_is_refused(
    known: dict[str, Record], number: int, aspects: tuple[str, ...] | None, code: str
) -> None:
    numbers = "is 7, but data.pool has only 6 group(s) of qa" if code == "not_enough_groups" else ""
    with refused(code, "invert.examples", naming=numbers):
        chosen(known, number, aspects)
