import math
import random

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from judging.stats import dataset_level as pooled
from judging.stats.agreement import agreement, compare
from judging.stats.bootstrap import intervals, weight_chunk
from judging.stats.dataset_level import dataset_level, quantile_bins
from judging.stats.estimate import LEVELS, STATISTICS, Estimate, to_json
from judging.stats.human_ceiling import human_ceiling
from judging.stats.krippendorff import krippendorff_alpha
from judging.stats.rows import Columns, Rows, complete_rows, numbers

# Four questions, four systems each. a: turned round. b: four concordant pairs, one model tie, one human tie (see
# test_correlation: accuracy .9, tau-b .8, Spearman .8333). c: people tie all. d: a constant model.
HUMAN = {"a": [1, 2, 3, 4], "b": [1, 1, 2, 3], "c": [2, 2, 2, 2], "d": [1, 2, 3, 4]}
SCORE = {"a": [4, 3, 2, 1], "b": [1, 2, 2, 3], "c": [1, 2, 3, 4], "d": [5, 5, 5, 5]}


def worked_example() -> Columns:
    return Columns(
        group=[group for group in HUMAN for _ in range(4)],
        human=[value for values in HUMAN.values() for value in values],
        score=[value for values in SCORE.values() for value in values],
        system=["s1", "s2", "s3", "s4"] * 4,
    )


def simulated(num_groups: int, size: int, *, seed: int = 0, levels: int | None = None, noise: float = 1.0) -> Columns:
    draws = np.random.default_rng(seed)
    systems = np.tile(np.arange(size), num_groups)
    human = draws.normal(size=num_groups * size) + np.repeat(draws.normal(size=num_groups), size) + systems / size
    if levels is not None:
        human = np.clip(np.round(human + levels / 2), 1, levels)
    score = human + noise * draws.normal(size=len(human))
    groups = [f"q{group}" for group in np.repeat(np.arange(num_groups), size)]
    return Columns(group=groups, human=human, score=score, system=[f"s{system}" for system in systems])


def sorted_rows(columns: Columns) -> Rows:
    score = numbers(columns.score, "score", missing=True)
    return complete_rows(columns, score, ~np.isnan(score))


def test_aeollm_by_hand() -> None:
    found = agreement(worked_example(), resamples=50)
    # Accuracy: a 0, b .9, c 1 (all tied), d .5 (every pair a model tie).
    assert found["aeollm.official.accuracy"].value == pytest.approx((0 + 0.9 + 1 + 0.5) / 4)
    # Tau-b: a -1, b .8, c and d undefined and counted 0; official takes |-1| = 1.
    assert found["aeollm.official.kendall"].value == pytest.approx((1 + 0.8) / 4)
    assert found["aeollm.signed.kendall"].value == pytest.approx((-1 + 0.8) / 4)
    assert found["aeollm.official.spearman"].value == pytest.approx((1 + 3.75 / 4.5) / 4)
    assert found["aeollm.signed.spearman"].value == pytest.approx((-1 + 3.75 / 4.5) / 4)
    assert found["aeollm.signed.spearman"].n == 4


def test_group_level_leaves_undefined_groups_out() -> None:
    found = agreement(worked_example(), resamples=50, levels=["group"])
    assert found["group.kendall_b"].value == pytest.approx((-1 + 0.8) / 2)
    assert (found["group.kendall_b"].n, found["group.kendall_b"].num_undefined) == (2, 2)
    # Accuracy is undefined for c only: (0 + .9 + .5) / 3.
    assert found["group.pairwise_accuracy"].value == pytest.approx(1.4 / 3)
    assert (found["group.pairwise_accuracy"].n, found["group.pairwise_accuracy"].num_undefined) == (3, 1)


def test_system_level_by_hand() -> None:
    # Mean human scores 6/4 7/4 10/4 13/4 rise; mean scores (4+1+1+5)/4 = 11/4, 12/4, 12/4, 13/4: one tie,
    # so tau-b = 5 / sqrt(6 * 5).
    found = agreement(worked_example(), resamples=50, levels=["system"])
    assert found["system.kendall_b"].value == pytest.approx(5 / math.sqrt(30))
    assert found["system.kendall_b"].n == 4


@pytest.mark.parametrize("levels", [None, 5])
def test_point_estimates_same_as_scipy(levels: int | None) -> None:
    columns = simulated(40, 7, levels=levels)
    human, score = np.asarray(columns.human), np.asarray(columns.score, float)
    found = agreement(columns, resamples=20, shuffles=5)
    assert found["dataset.pearson"].value == pytest.approx(scipy.stats.pearsonr(human, score).statistic)
    assert found["dataset.spearman"].value == pytest.approx(scipy.stats.spearmanr(human, score).statistic)
    assert found["dataset.kendall_b"].value == pytest.approx(scipy.stats.kendalltau(human, score).statistic)
    assert found["dataset.mean_absolute_error"].value == pytest.approx(np.abs(human - score).mean())
    assert found["dataset.krippendorff_alpha"].value == pytest.approx(
        krippendorff_alpha(np.column_stack([human, score]), "interval")
    )
    taus = [
        scipy.stats.kendalltau(h, s).statistic for h, s in zip(human.reshape(-1, 7), score.reshape(-1, 7), strict=True)
    ]
    assert found["group.kendall_b"].value == pytest.approx(np.nanmean(taus))
    assert found["aeollm.official.kendall"].value == pytest.approx(np.abs(np.nan_to_num(taus)).mean())
    means = [values.reshape(-1, 7).mean(axis=0) for values in (human, score)]
    assert found["system.spearman"].value == pytest.approx(scipy.stats.spearmanr(*means).statistic)
    for name, estimate in found.items():
        assert estimate.low <= estimate.high, name


def brute_force(rows: Rows, weights: np.ndarray) -> np.ndarray:
    """The five dataset statistics of each resample by repeating its rows."""
    found = []
    for weights_G in weights.astype(int):
        repeated = np.repeat(np.arange(len(rows.human_N)), weights_G[rows.group_N])
        human, score = rows.human_N[repeated], rows.score_N[repeated]
        found.append(
            [
                scipy.stats.pearsonr(human, score).statistic,
                scipy.stats.spearmanr(human, score).statistic,
                scipy.stats.kendalltau(human, score).statistic,
                np.abs(human - score).mean(),
                krippendorff_alpha(np.column_stack([human, score])),
            ]
        )
    return np.array(found)


@pytest.mark.parametrize("case", ["comparisons", "table", "float32 table"])
def test_dataset_replicates_are_exact(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = simulated(20, 6, levels=None if case == "comparisons" else 5)
    if case != "comparisons":
        columns = Columns(columns.group, columns.human, np.round(np.asarray(columns.score, float)), columns.system)
    rows = sorted_rows(columns)
    if case == "comparisons":
        monkeypatch.setattr(pooled, "MAX_CELLS", 4)
    if case == "float32 table":
        monkeypatch.setattr(pooled, "MAX_ROWS_FLOAT64", 0)
    weights = weight_chunk(20, 100, (1,))
    tolerance = 1e-5 if case == "float32 table" else 1e-10
    np.testing.assert_allclose(dataset_level(rows).resample(weights), brute_force(rows, weights), atol=tolerance)


# Share of the interval's width by which an end may be off; Pearson is about .9998, .997, .98, .83 and .45.
@pytest.mark.parametrize(("noise", "tolerance"), [(0.03, 0.2), (0.1, 0.1), (0.3, 0.04), (1.0, 0.04), (3.0, 0.04)])
@pytest.mark.parametrize("seed", range(4))
def test_binned_interval_is_close_to_the_exact_one(
    noise: float, tolerance: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = sorted_rows(simulated(60, 5, seed=seed, noise=noise))
    weights = weight_chunk(60, 1000, (1,))
    exact = dataset_level(rows).resample(weights)
    monkeypatch.setattr(pooled, "MAX_SUMS", 0)
    level = dataset_level(rows)
    np.testing.assert_allclose(level.resample(np.ones((1, 60)))[0], level.values, atol=1e-10)
    exact_ends, ends = (
        np.quantile(values[:, 1:3], [0.025, 0.975], axis=0) for values in (exact, level.resample(weights))
    )
    width = exact_ends[1] - exact_ends[0]
    assert (np.abs(ends - exact_ends) < tolerance * width).all(), np.abs(ends - exact_ends) / width


def test_quantile_bins_keep_order_and_ties() -> None:
    codes = np.sort(np.random.default_rng(0).integers(0, 500, 2000))
    codes = np.unique(codes, return_inverse=True)[1]
    bins = quantile_bins(codes, 64)
    assert bins.min() == 0 and bins.max() == len(np.unique(bins)) - 1 <= 63
    assert (np.diff(bins) >= 0).all() and (np.diff(bins)[np.diff(codes) == 0] == 0).all()


def test_group_and_system_replicates_are_exact() -> None:
    from judging.stats.group_level import aeollm_level, group_level, group_values, system_level

    columns = worked_example()
    rows = sorted_rows(columns)
    values = group_values(rows)
    weights = np.array([[2.0, 2, 0, 0], [0, 0, 4, 0], [0, 1, 1, 2]])
    tau = group_level(rows, values).resample(weights)[:, STATISTICS["group"].index("group.kendall_b")]
    # a twice, b twice: (-2 + 1.6) / 4; c only: undefined; b once: .8.
    np.testing.assert_allclose(tau, [-0.1, np.nan, 0.8])
    kendall = aeollm_level(rows, values).resample(weights)[:, 1]
    np.testing.assert_allclose(kendall, [(2 + 1.6) / 4, 0, 0.8 / 4])
    # a and b: human means 1 1.5 2.5 3.5, scores 2.5 2.5 2 2: two ties, four discordant pairs: -4 / sqrt(6 * 4).
    assert system_level(rows).resample(weights)[0, 2] == pytest.approx(-4 / math.sqrt(24))


def test_floor() -> None:
    found = agreement(simulated(30, 5), resamples=20)
    for name in ("kendall", "spearman"):
        official, signed = found[f"floor.aeollm.official.{name}"], found[f"floor.aeollm.signed.{name}"]
        assert official.low > 0.2 and signed.low < 0 < signed.high
    # The mean of |rho| over all 120 orders of five values.
    from itertools import permutations

    exact = np.mean([abs(scipy.stats.spearmanr(range(5), order).statistic) for order in permutations(range(5))])
    assert found["floor.aeollm.official.spearman"].value == pytest.approx(exact, abs=0.02)
    assert found["floor.group.pairwise_accuracy"].value == pytest.approx(0.5, abs=0.02)
    for name in (
        "dataset.pearson",
        "dataset.kendall_b",
        "dataset.krippendorff_alpha",
        "group.kendall_c",
        "group.kendall_a",
    ):
        assert found[f"floor.{name}"].low < 0 < found[f"floor.{name}"].high < 0.4
    assert found["floor.dataset.mean_absolute_error"].value > found["dataset.mean_absolute_error"].value
    assert set(found) == {
        f"{floor}{name}" for names in STATISTICS.values() for name in names for floor in ("", "floor.")
    }


@pytest.mark.parametrize(("size", "levels"), [(2, None), (6, 3), (7, 3), (128, None), (200, 20)])
def test_floor_values_same_as_scipy(size: int, levels: int | None) -> None:
    from judging.stats.chance import _Shuffler
    from judging.stats.correlation import row_correlations

    rows = sorted_rows(simulated(3, size, levels=levels, noise=0 if levels else 1))
    ((_, rows_GN),) = rows.groups_by_size().values()
    shuffled = np.random.default_rng(0).permuted(rows_GN, axis=1)
    found = _Shuffler(rows, rows_GN).values(shuffled)
    expected = row_correlations(rows.human_N[rows_GN], rows.score_N[shuffled])
    np.testing.assert_allclose(found, np.column_stack(expected), atol=1e-12)


def test_interval_kinds_and_one_group() -> None:
    columns = simulated(25, 4)
    percentile, bca = (agreement(columns, interval=kind, shuffles=0) for kind in ("percentile", "bca"))  # type: ignore[arg-type]
    assert percentile["dataset.pearson"].value == bca["dataset.pearson"].value
    assert percentile["dataset.pearson"].low != bca["dataset.pearson"].low
    one = agreement(Columns(group=["q"] * 4, human=[1, 2, 3, 4], score=[1, 2, 4, 3]))
    assert one["group.kendall_b"].value == pytest.approx(4 / 6)
    assert math.isnan(one["group.kendall_b"].low) and not any(name.startswith("system") for name in one)


def test_unscored_rows_lower_coverage_only() -> None:
    full = simulated(10, 5)
    extra = Columns(
        group=[*full.group, "q0", "lost"],
        human=[*full.human, 3.0, 1.0],
        score=[*full.score, None, math.nan],
        system=[*full.system, "s9", "s0"],  # type: ignore[misc]
    )
    found, plain = agreement(extra, resamples=100), agreement(full, resamples=100)
    for name, estimate in found.items():
        assert estimate.coverage == pytest.approx(50 / 52)
        assert (estimate.value, estimate.low, estimate.n) == (plain[name].value, plain[name].low, plain[name].n)


def test_nothing_scored_and_no_rows() -> None:
    for columns in (Columns(["a", "b"], [1, 2], [None, None], ["s", "s"]), Columns([], [], [])):
        found = agreement(columns, resamples=20, shuffles=3)
        assert all(math.isnan(estimate.value) and estimate.n == 0 for estimate in found.values())
    assert to_json(agreement(Columns(["a"], [1], [None]), resamples=9))["dataset"]["pearson"]["value"] is None  # type: ignore[index]


def test_wrong_input() -> None:
    with pytest.raises(ValueError, match="no level 'word'"):
        agreement(worked_example(), levels=["word"])
    with pytest.raises(ValueError, match="without a number"):
        agreement(Columns(["a"], [math.nan], [1.0]))
    with pytest.raises(ValueError, match="infinite"):
        agreement(Columns(["a"], [1.0], [math.inf]))
    with pytest.raises(ValueError, match="different lengths"):
        Columns(["a"], [1.0], [])


ROWS = st.lists(
    st.tuples(
        st.sampled_from("abcd"), st.sampled_from(["x", "y", "z"]), st.integers(1, 5),
        st.one_of(st.none(), st.integers(-9, 9).map(lambda n: n / 4)),
        st.tuples(st.integers(1, 3), st.one_of(st.none(), st.integers(1, 3))),
    ),
    max_size=14,
)  # fmt: skip


def columns_of(rows: list[tuple]) -> Columns:
    names = ("group", "system", "human", "score", "ratings")
    return Columns.from_rows(dict(zip(names, row, strict=True)) for row in rows)


@given(ROWS, st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_order_of_rows_does_not_matter(rows: list[tuple], seed: int) -> None:
    mixed = random.Random(seed).sample(rows, len(rows))
    first, second = (agreement(columns_of(some), resamples=30, shuffles=5) for some in (rows, mixed))
    assert to_json(first) == to_json(second)
    ceilings = [human_ceiling(columns_of(some), resamples=30) or {} for some in (rows, mixed)]
    assert to_json(ceilings[0]) == to_json(ceilings[1])


@given(ROWS)
@settings(max_examples=40, deadline=None)
def test_range_and_monotone_transforms(rows: list[tuple]) -> None:
    columns = columns_of(rows)
    bent = Columns(
        columns.group, columns.human, [None if s is None else 8 * s + 1 for s in columns.score], columns.system
    )
    found, other = (agreement(some, resamples=20, shuffles=3) for some in (columns, bent))
    for name, estimate in found.items():
        if "error" in name or "alpha" in name:
            continue
        assert math.isnan(estimate.value) or -1 - 1e-9 <= estimate.value <= 1 + 1e-9
        if not any(word in name for word in ("system", "pearson")):
            assert other[name].value == pytest.approx(estimate.value, nan_ok=True), name


def test_compare_is_paired() -> None:
    columns = simulated(30, 6)
    length = list(np.random.default_rng(3).normal(size=180))
    length[7] = None  # type: ignore[call-overload]
    found = compare(columns, length, resamples=400)
    better = found["dataset.pearson"]
    assert better.low > 0 and better.n == 179 and better.coverage == pytest.approx(179 / 180)
    same = compare(columns, columns.score, resamples=100)
    assert all((e.value, e.low, e.high) == (0, 0, 0) for e in same.values())
    # A nearly equal column: the paired interval is far narrower than that of either column.
    close = list(np.asarray(columns.score, float) + 0.01 * np.random.default_rng(4).normal(size=180))
    paired, alone = compare(columns, close)["dataset.spearman"], agreement(columns, shuffles=0)["dataset.spearman"]
    assert paired.high - paired.low < 0.1 * (alone.high - alone.low)
    with pytest.raises(ValueError, match="baseline has 1 rows"):
        compare(columns, [1.0])


def test_a_group_that_one_column_does_not_order_is_compared_by_neither() -> None:
    """a: score in order, baseline turned around; b: score constant, baseline in order; c: score turned, baseline in
    order. Pairs are a and c: (1 - -1 + -1 - 1) / 2 = 0. The two means alone, 0 and 1/3, would differ by -1/3."""
    human = [1.0, 2, 3] * 3
    score, baseline = [1.0, 2, 3, 2, 2, 2, 3, 2, 1], [3.0, 2, 1, 1, 2, 3, 1, 2, 3]
    columns = Columns(list("aaabbbccc"), human, score)
    found = compare(columns, baseline, resamples=200)["group.spearman"]
    assert (found.value, found.n, found.num_undefined) == (pytest.approx(0), 2, 1)
    # Over two groups the interval lies around the value.
    assert (found.low, found.high) == (pytest.approx(-2), pytest.approx(2))
    # The statistics of each column by itself are over its own groups.
    assert agreement(columns, shuffles=0, resamples=200)["group.spearman"].n == 2
    accuracy = compare(columns, baseline, resamples=200)["group.pairwise_accuracy"]
    # Accuracy is defined in b too, where ties count half: (1 - 0 + .5 - 1 + 0 - 1) / 3.
    assert (accuracy.value, accuracy.n) == (pytest.approx(-0.5 / 3), 3)


def test_to_json_nests_and_has_plain_values() -> None:
    tree = to_json({"a.b": Estimate(np.float64(0.5), math.nan, 1.0, np.int64(3), 1.0), "a.c": Estimate(0, 0, 0, 0, 0)})  # type: ignore[arg-type]
    assert tree["a"]["b"]["low"] is None and tree["a"]["b"]["n"] == 3  # type: ignore[index]
    assert set(tree["a"]) == {"b", "c"}  # type: ignore[call-overload]
    assert set(STATISTICS) == set(LEVELS)


@pytest.mark.parametrize("interval", ["percentile", "bca"])
def test_intervals_hold_the_truth(interval: str) -> None:
    # Correlation of human and human + noise is sqrt(V / (V + 1)), V the variance of human: 1 + 1 (one group effect
    # and one of the candidate). 120 data sets; the standard error of the hit rate is 2 %.
    truth = math.sqrt(2 / 3)
    hits = 0
    for seed in range(120):
        draws = np.random.default_rng(seed)
        human = np.repeat(draws.normal(size=50), 4) + draws.normal(size=200)
        columns = Columns([str(i // 4) for i in range(200)], human, human + draws.normal(size=200))
        found = agreement(columns, levels=["dataset"], resamples=400, shuffles=0, interval=interval)["dataset.pearson"]  # type: ignore[arg-type]
        hits += found.low <= truth <= found.high
    assert 0.87 <= hits / 120 <= 1.0


def test_intervals_over_few_groups_are_too_narrow() -> None:
    """Why the report warns below ten groups: the truth, 0, lies in the "95 %" interval of fewer means by far."""
    hits = {}
    for num in (3, 10):
        inside = 0
        for seed in range(300):
            value_G = np.random.default_rng(seed).normal(size=num)
            (ends,) = intervals(
                lambda weights_BG, value_G=value_G: (weights_BG @ value_G / weights_BG.sum(axis=1))[:, None],
                np.array([value_G.mean()]),
                num,
                resamples=400,
                seed=seed,
                method="percentile",
            )
            inside += ends.low <= 0 <= ends.high
        hits[num] = inside / 300
    # Two standard errors of a rate here are 4 to 5 %.
    assert hits[3] == pytest.approx(0.75, abs=0.06)
    assert hits[10] == pytest.approx(0.89, abs=0.05)


def of_two_systems(unit: float, *, ratings: bool = False) -> Columns:
    """Two systems whose means over four questions are equal, in points of `unit`: in tenths the last bits differ."""
    human = {"a": (1, 2, 3, 7), "b": (1, 7, 3, 2)}
    rows = [(f"g{g}", system, human[system][g]) for system in human for g in range(4)]
    return Columns(
        group=[group for group, _, _ in rows],
        human=[round(value * unit, 1) for _, _, value in rows],
        score=[{"a": 1, "b": 2}[system] for _, system, _ in rows],
        system=[system for _, system, _ in rows],
    )


def test_equal_within_rounding_is_a_tie_at_the_level_of_systems() -> None:
    sums = [sum(one for one, of in zip(of_two_systems(0.1).human, "aaaabbbb", strict=True) if of == s) for s in "ab"]
    assert sums[0] != sums[1]  # 1.3 and 1.2999999999999998
    for name in STATISTICS["system"]:
        # Both means are 13/4: constant, so that there is no correlation.
        assert [math.isnan(agreement(of_two_systems(unit))[name].value) for unit in (1, 0.1)] == [True, True]


def test_equal_within_rounding_is_a_tie_within_a_group() -> None:
    human, score = [0.1 + 0.2, 0.3, 1.0], [1.0, 2.0, 3.0]
    found = agreement(Columns(["g"] * 3, human, score), shuffles=0)
    # One pair is tied: of the other two both are concordant. tau-b: 2 / sqrt(2 * 3).
    assert found["group.kendall_b"].value == pytest.approx(2 / math.sqrt(6))
    assert found["dataset.kendall_b"].value == pytest.approx(2 / math.sqrt(6))
    assert found["aeollm.official.accuracy"].value == 1


def test_a_row_without_a_system_counts_at_every_level_but_that_of_systems() -> None:
    whole = simulated(12, 4, seed=3)
    assert whole.system is not None
    some = Columns(whole.group, whole.human, whole.score, [None, *whole.system[1:]])
    rest = Columns(whole.group[1:], whole.human[1:], whole.score[1:], whole.system[1:])
    found, of_all, of_rest = (agreement(columns, shuffles=20) for columns in (some, whole, rest))
    for name in of_all:
        level = name.removeprefix("floor.").split(".")[0]
        if level != "system":
            assert found[name] == of_all[name]
    for name in STATISTICS["system"]:
        assert found[name].value == pytest.approx(of_rest[name].value)
        assert found[name].n == 4
        assert math.isfinite(found[f"floor.{name}"].value)
