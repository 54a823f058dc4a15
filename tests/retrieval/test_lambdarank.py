"""The ranking loss against a loop, sentence-transformers and values worked out by hand; NDCG against scikit-learn."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.cross_encoder.losses.lambda_loss import LambdaRankScheme
from sklearn.metrics import ndcg_score

from retrieval.fit_worker_args import Weight
from retrieval.lambdarank import in_batch_loss, lambdarank_loss, mixed_loss, ndcg


def loop(scores, gains, mask, weight):
    """The formula as it stands in the paper, pair by pair."""
    total = 0.0
    for s, g, m in zip(scores, gains, mask, strict=True):
        places = [place for place in range(len(s)) if m[place]]
        if weight == "true_rank":
            rank = {i: 1 + sum(g[j] > g[i] for j in places) for i in places}
        else:
            order = sorted(places, key=lambda i: (-s[i], i))
            rank = {i: order.index(i) + 1 for i in places}
        for i in places:
            for j in places:
                if g[i] > g[j]:
                    total += abs(1 / rank[i] - 1 / rank[j]) * math.log1p(math.exp(s[j] - s[i]))
    return total / len(scores)


def test_two_candidates_by_hand() -> None:
    # The better one (rank 1) scores 0, the other (rank 2) scores 1: (1 - 1/2) * log(1 + e) = 0.5 * 1.313262.
    found = lambdarank_loss(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.9, 0.1]]))
    assert found.item() == pytest.approx(0.5 * math.log1p(math.e))


def test_the_weights_differ_by_hand() -> None:
    scores, gains = torch.tensor([[3.0, 2.0, 1.0]]).double(), torch.tensor([[1.0, 2.0, 3.0]]).double()
    # Ranks by gain 3, 2, 1; positions by score 1, 2, 3. Pairs (better, worse): (1, 0), (2, 0), (2, 1).
    one, two = math.log1p(math.e), math.log1p(math.e**2)
    by_gain = (1 / 2 - 1 / 3) * one + (1 - 1 / 3) * two + (1 - 1 / 2) * one
    by_score = (1 - 1 / 2) * one + (1 - 1 / 3) * two + (1 / 2 - 1 / 3) * one
    assert lambdarank_loss(scores, gains).item() == pytest.approx(by_gain)
    assert lambdarank_loss(scores, gains, weight="pred_rank").item() == pytest.approx(by_score)


@settings(deadline=None, max_examples=60)
@given(
    weight=st.sampled_from(["true_rank", "pred_rank"]),
    shape=st.tuples(st.integers(1, 4), st.integers(1, 7)),
    seed=st.integers(0, 10_000),
)
def test_equals_the_loop(weight: Weight, shape: tuple[int, int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-3, 4, shape, generator=generator).double()  # ties in both
    gains = torch.randint(0, 4, shape, generator=generator).double()
    mask = torch.rand(shape, generator=generator) > 0.2
    expected = loop(scores.tolist(), gains.tolist(), mask.tolist(), weight)
    assert lambdarank_loss(scores, gains, mask, weight=weight).item() == pytest.approx(expected, abs=1e-12)
    single = lambdarank_loss(scores.float(), gains.float(), mask, weight=weight)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_predicted_ranks_weigh_as_sentence_transformers_does() -> None:
    # Its scheme is |1/d_i - 1/d_j| * |g_i - g_j| over sorted scores: with d the position and gains of 0 and 1, ours.
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn((6, 9), generator=generator).double()
    gains = (torch.rand((6, 9), generator=generator) > 0.6).double()
    order = scores.argsort(dim=1, descending=True)
    sorted_scores, sorted_gains = scores.gather(1, order), gains.gather(1, order)
    positions = torch.arange(1, 10).double()[None, :]
    weights = LambdaRankScheme()(sorted_gains, positions, sorted_gains)
    pairs = sorted_gains[:, :, None] > sorted_gains[:, None, :]
    differences = sorted_scores[:, :, None] - sorted_scores[:, None, :]
    expected = -(weights * torch.nn.functional.logsigmoid(differences))[pairs].sum() / 6
    assert lambdarank_loss(scores, gains, weight="pred_rank").item() == pytest.approx(expected.item())


@pytest.mark.parametrize("weight", ["true_rank", "pred_rank"])
def test_gradients(weight: Weight) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn((3, 5), generator=generator, dtype=torch.float64, requires_grad=True)
    gains = torch.rand((3, 5), generator=generator, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True, True, False, True, True], [False] * 5])
    assert torch.autograd.gradcheck(lambda s: lambdarank_loss(s, gains, mask, weight=weight), (scores,))


def test_only_ties_or_nothing_is_no_loss_and_no_gradient() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    for mask in (None, torch.zeros((1, 3), dtype=torch.bool)):
        loss = lambdarank_loss(scores, torch.full((1, 3), 0.5), mask)
        loss.backward()
        assert loss.item() == 0
        assert torch.equal(scores.grad, torch.zeros((1, 3)))
    assert lambdarank_loss(torch.zeros((0, 3)), torch.zeros((0, 3))).item() == 0


def test_what_is_masked_does_not_count_whatever_stands_there() -> None:
    mask = torch.tensor([[True, True, False]])
    scores = torch.tensor([[0.0, 1.0, float("-inf")]], requires_grad=True)
    loss = lambdarank_loss(scores, torch.tensor([[0.9, 0.1, 7.0]]), mask)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 * math.log1p(math.e))
    assert torch.isfinite(scores.grad).all()


def test_large_differences_stay_finite() -> None:
    scores = torch.tensor([[0.0, 1e4]], requires_grad=True)
    loss = lambdarank_loss(scores, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss.item() == pytest.approx(0.5e4)
    assert scores.grad.tolist() == [[-0.5, 0.5]]


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="one Q x K shape"):
        lambdarank_loss(torch.zeros((2, 3)), torch.zeros((3, 2)))


def test_in_batch_loss_by_hand() -> None:
    scores = torch.tensor([[2.0, 0.0, 5.0], [0.0, 1.0, 1.0], [9.0, 9.0, 9.0]])
    allowed = torch.tensor([[True, True, False], [True, True, True], [True, True, True]])
    # First query: 2 against 0 (5 is not allowed). Second: 1 against 0 and 1. Third has no best example.
    first = -2 + math.log(math.exp(2) + 1)
    second = -1 + math.log(1 + 2 * math.e)
    found = in_batch_loss(scores, torch.tensor([0, 1, -1]), allowed)
    assert found.item() == pytest.approx((first + second) / 2)


def test_in_batch_loss_without_any_best_is_zero_with_a_gradient() -> None:
    scores = torch.ones((2, 2), requires_grad=True)
    loss = in_batch_loss(scores, torch.tensor([-1, -1]), torch.ones((2, 2), dtype=torch.bool))
    loss.backward()
    assert (loss.item(), scores.grad.abs().sum().item()) == (0, 0)


def test_mixed() -> None:
    assert mixed_loss(torch.tensor(2.0), torch.tensor(6.0), 0.75).item() == pytest.approx(3.0)


def test_ndcg_by_hand() -> None:
    # Shown: 1, 3, 0, 2. DCG@2 = 1 + 3 / log2(3); best: 3, 2: 3 + 2 / log2(3).
    found = ndcg(torch.tensor([[4.0, 3.0, 2.0, 1.0]]), torch.tensor([[1.0, 3.0, 0.0, 2.0]]), k=2)
    assert found.tolist() == [pytest.approx((1 + 3 / math.log2(3)) / (3 + 2 / math.log2(3)))]


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 8))
def test_ndcg_equals_scikit_learn(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand((3, 6), generator=generator, dtype=torch.float64)
    gains = torch.randint(0, 5, (3, 6), generator=generator).double()
    gains[:, 0] += 1
    expected = [ndcg_score(g[None].numpy(), s[None].numpy(), k=k) for g, s in zip(gains, scores, strict=True)]
    assert ndcg(scores, gains, k=k).tolist() == pytest.approx(expected)


def test_ndcg_of_nothing_to_gain_is_not_a_number() -> None:
    found = ndcg(torch.zeros((2, 2)), torch.tensor([[0.0, 0.0], [1.0, 0.0]]), k=4)
    assert math.isnan(found[0].item())
    assert found[1].item() == 1


def test_ndcg_refuses_negative_gains_but_not_masked_ones() -> None:
    with pytest.raises(ValueError, match="0 or more"):
        ndcg(torch.zeros((1, 2)), torch.tensor([[-1.0, 1.0]]), k=2)
    mask = torch.tensor([[False, True]])
    assert ndcg(torch.tensor([[5.0, 1.0]]), torch.tensor([[-1.0, 1.0]]), mask, k=2).tolist() == [1.0]
