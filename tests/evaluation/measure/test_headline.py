"""The sentence about the systems, for every outcome."""

import re
from dataclasses import replace

import numpy as np
import pytest

from evaluation.measure.headline import headline, sentence
from judging.stats.systems import Ranking, rank_systems


def ranking(*means: float, groups: int = 40) -> Ranking:
    """Systems A, B, ... with these means; the groups differ, and rows have a little noise."""
    random = np.random.default_rng(5)
    hard = random.normal(size=groups)
    names = [chr(ord("A") + place) for place in range(len(means))]
    rows = [(str(group), name) for group in range(groups) for name in names]
    scores = [hard[int(group)] + means[ord(name) - ord("A")] + random.normal(0, 0.5) for group, name in rows]
    return rank_systems([one for one, _ in rows], [one for _, one in rows], scores, [1.0] * len(rows), resamples=300)


@pytest.mark.parametrize(
    ("means", "sentence"),
    [
        ((1,), r"A has a mean of \S+ \[\S+, \S+\] on overall; no other system is compared\."),
        ((3, 1), r"A is better than B on overall by \S+ \[\S+, \S+\] points\."),
        (
            (1, 1),
            r"(A and B|B and A) cannot be told apart on overall \((A minus B|B minus A), \S+ \[\S+, \S+\] points\)\.",
        ),
        ((3, 2, 1), r"A is better than the other 2 systems on overall, than B by \S+ \[\S+, \S+\] points\."),
        (
            (3, 1, 1),
            r"A is better than the other 2 systems on overall, than . by \S+ \[\S+, \S+\] points; "
            r"not told apart: . and .\.",
        ),
        (
            (3, 3, 1),
            r". has the highest mean on overall and cannot be told apart from .; it is better than C by \S+ "
            r"\[\S+, \S+\] points\.",
        ),
    ],
)
def test_every_outcome(means: tuple[float, ...], sentence: str) -> None:
    assert re.fullmatch(sentence, headline(ranking(*means), "overall")), headline(ranking(*means), "overall")


def test_many_systems_are_counted() -> None:
    words = headline(ranking(*[1] * 9, groups=10), "overall")
    assert words.startswith("The 9 systems cannot be told apart on overall (largest difference: ")
    words = headline(ranking(9, *[8.9] * 7, 1, groups=10), "overall")
    assert re.search(r"cannot be told apart from ., ., . and \d others; it is better than", words), words


def test_no_best_system_but_a_pair_that_differs() -> None:
    one = ranking(2, 1.8, 1)
    first, second, third = one.differences  # A - B, A - C, B - C
    # As if the best, known in few groups, could not be told apart from the last, while the second can.
    unsure = replace(one, differences=[replace(first, p=1.0), replace(second, p=1.0), replace(third, p=0.01)])
    words = headline(unsure, "overall")
    assert re.fullmatch(
        r"No system can be called the best on overall; but B is better than C by \S+ .* points\.", words
    )
    four = ranking(2, 1.8, 1, 0.9)
    both = [
        replace(pair, p=1.0 if pair.first == "A" or (pair.first, pair.second) == ("C", "D") else 0.01)
        for pair in four.differences
    ]
    assert headline(replace(four, differences=both), "overall").endswith("points, and 1 more pair differs.")


def test_whose_scores_they_are_comes_first() -> None:
    assert headline(ranking(3, 1), "overall", "the panel").startswith("By the panel, A is better than B on overall by ")
    words = headline(ranking(*[1] * 9, groups=10), "overall", "people")
    assert words.startswith("By people, the 9 systems cannot be told apart")
    one = ranking(2, 1.8, 1)
    open_pairs = [replace(pair, p=0.01 if pair.first == "B" else 1.0) for pair in one.differences]
    assert headline(replace(one, differences=open_pairs), "overall", "j").startswith("By j, no system can be called")


def test_few_shared_groups_are_the_reason() -> None:
    said = "A and B cannot be told apart on overall (fewer than 6 shared groups)."
    assert headline(ranking(5, 1, groups=5), "overall") == said


def test_estimates_that_contradict_the_order_say_which_is_better() -> None:
    """Pair by pair, as with few labels, C may surely be better than A, who is ahead by the sum of differences."""
    first, second, third = ranking(2, 1.8, 1).differences
    turned = replace(second, value=second.value.negative(), p=0.001)
    words = sentence(["A", "B", "C"], [replace(first, p=1.0), turned, replace(third, p=1.0)], "overall")
    assert words.startswith("No system can be called the best on overall; but C is better than A by ")


def test_systems_are_told_apart_by_their_names_as_they_are() -> None:
    names = ["d e", "d\ne", "z"]
    groups, systems = [str(group) for group in range(12)] * 3, [name for name in names for _ in range(12)]
    noise = np.random.default_rng(0).normal(0, 0.1, 36)
    scores = np.repeat([5.0, 3.0, 1.0], 12) + noise
    words = headline(rank_systems(groups, systems, scores, [1.0] * 36, resamples=200), "overall")
    # Both are written in one line; the pairs are the right ones: 5 - 3 = 2.
    found = re.fullmatch(r"d e is better than the other 2 systems on overall, than d e by (\S+) \[.*\] points\.", words)
    assert found and float(found[1]) == pytest.approx(2, abs=0.1)
