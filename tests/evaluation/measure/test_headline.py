"""The sentence about the systems, for every outcome."""

import re
from dataclasses import replace

import numpy as np
import pytest

from evaluation.measure.headline import headline
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
    first, second, third = one.differences
    # As if the best, known in few groups, could not be told apart from the last, while the second can.
    unsure = replace(one, differences=[replace(first, p=1.0), replace(second, p=1.0), replace(third, p=0.01)])
    words = headline(unsure, "overall")
    assert re.fullmatch(
        r"No system can be called the best on overall; but B is better than C by \S+ .* points\.", words
    )
    both = replace(one, differences=[replace(first, p=1.0), replace(second, p=1.0), third, third])
    assert headline(both, "overall").endswith("points, and 1 more pair differs.")
