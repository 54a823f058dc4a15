"""Which candidates are compared, by hand."""

import random

from hypothesis import given
from hypothesis import strategies as st

from judging.pairing import Against, Pair, pairs_of
from judging.records import Record, Scale
from tests.evaluation.making import record


def group(key: str, systems: str) -> list[Record]:
    return [record(f"{key}{place}", key, system=system) for place, system in enumerate(systems)]


def ids(records: list[Record], against: Against | None = None, seed: int = 0) -> list[tuple[str, str]]:
    return [(pair.first.id, pair.second.id) for pair in pairs_of(records, against or Against(), seed)]


def test_every_two_systems_of_a_group_meet_once() -> None:
    assert ids(group("g", "ba") + group("h", "abc")) == [("g1", "g0"), ("h0", "h1"), ("h0", "h2"), ("h1", "h2")]


def test_two_texts_of_one_system_do_not_meet_and_one_without_a_system_meets_nobody() -> None:
    records = [*group("g", "aab"), record("x", "g", system="")]
    assert ids(records) == [("g0", "g2"), ("g1", "g2")]
    assert ids(group("g", "a") + group("h", "b")) == []


def test_pairs_with_one_system() -> None:
    assert ids(group("g", "abc"), Against(system="b")) == [("g0", "g1"), ("g1", "g2")]
    assert ids(group("g", "ac"), Against(system="b")) == []


@given(st.integers(0, 5), st.integers(1, 8), st.randoms())
def test_a_sample_depends_on_the_groups_content_alone(seed: int, number: int, chance: random.Random) -> None:
    records = group("g", "abcd")
    whole, sample = ids(records), ids(records, Against(sample=number), seed)
    assert len(sample) == min(number, 6) and set(sample) <= set(whole)
    turned = records[:]
    chance.shuffle(turned)
    assert ids(turned + group("h", "ab"), Against(sample=number), seed)[: len(sample)] == sample
    # A larger sample contains the smaller one.
    assert set(sample) <= set(ids(records, Against(sample=number + 1), seed))


def test_blank_and_identical_texts_are_not_asked_about() -> None:
    def reason(one: str, other: str) -> str | None:
        return Pair(record("a", candidate=one), record("b", candidate=other)).unscored

    same = Pair(record("a", candidate="Same text."), record("b", candidate="Same  text.\n"))
    assert (same.is_identical, same.unscored, same.is_asked) == (True, None, False)
    assert reason("Same text.", "Same Text.") is None
    assert reason("", "x") == reason("x", "\u200b ") == reason(" ", "") == "empty"


def test_a_pair_is_one_question_in_both_orders() -> None:
    def pair(one: dict[str, str], other: dict[str, str]) -> Pair:
        texts = [
            record(name, task="dialogue", candidate=name, fields=fields) for name, fields in (("a", one), ("b", other))
        ]
        return Pair(*texts)

    # The prompt for dialogues shows the fact; a note is in no prompt.
    assert pair({"fact": "Bees dance."}, {"fact": "Bees fly."}).unscored == "other_fields"
    assert pair({"fact": "Bees dance."}, {}).unscored == "other_fields"
    assert pair({"fact": "Bees dance.", "note": "x"}, {"fact": "Bees dance."}).is_asked


def test_a_sample_holds_pairs_that_can_be_compared() -> None:
    records = [record(name, "g", system=name, candidate=text) for name, text in (("a", "A."), ("b", "B."), ("c", " "))]
    for seed in range(20):
        assert ids(records, Against(sample=1), seed) == [("a", "b")]


def test_the_aspects_of_a_pair() -> None:
    both = {"scores": {"overall": 1.0, "utility": 2.0}, "scales": {"overall": Scale(1, 5), "utility": Scale(1, 5)}}
    pair = Pair(record("a", **both), record("b"))
    assert pair.aspects(None) == ("overall",)
    assert pair.aspects(("utility", "overall")) == ("utility", "overall")
    assert Pair(record("a", label=None), record("b", label=None)).aspects(None) == ("overall",)  # the task's first


def test_labels_are_on_the_first_texts_scale() -> None:
    # 9 on 1 to 9 is 5 on 1 to 5.
    pair = Pair(record("a", label=4.0), record("b", label=9.0, high=9.0))
    assert pair.labels("overall") == (4.0, 5.0)
    assert pair.labels("utility") is None
    assert Pair(record("a"), record("b", label=None)).labels("overall") is None
