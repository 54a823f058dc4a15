"""LambdaRank: a list-wise loss that ranks examples by their utility to the judge, and NDCG@k to measure a ranking.

Q queries, K candidate examples of each query, N examples of the whole batch. A gain is an example's utility (larger is
better); a score is the retriever's. Formula: UDR, arXiv 2305.04320, in the spirit of
LambdaRank; the two weights are those of its text (`true_rank`) and of its code (`pred_rank`).
"""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, softplus

from retrieval.fit_worker_args import Weight


def lambdarank_loss(
    scores_QK: torch.Tensor,
    gains_QK: torch.Tensor,
    mask_QK: torch.Tensor | None = None,
    *,
    weight: Weight = "true_rank",
) -> torch.Tensor:
    """Sum over the pairs in which i gains more than j of `w_ij * log(1 + exp(s_j - s_i))`, mean over the queries.

    Candidates of equal gain are not a pair. A query without a pair adds 0.

    Args:
        scores_QK: of the retriever.
        gains_QK: larger is better.
        mask_QK: True where there is a candidate; None: everywhere.
        weight: `true_rank`: w = 1 / r_i - 1 / r_j, r the rank by gain (1 is best; equal gains share the better rank).
            `pred_rank`: w = |1 / p_i - 1 / p_j|, p the current position by score (ties in the order given).

    Returns:
        The loss, a scalar.
    """
    if scores_QK.ndim != 2 or scores_QK.shape != gains_QK.shape:
        raise ValueError(f"scores {tuple(scores_QK.shape)} and gains {tuple(gains_QK.shape)} must be one Q x K shape")
    if mask_QK is None:
        mask_QK = torch.ones_like(gains_QK, dtype=torch.bool)
    gains_QK = gains_QK.to(scores_QK.dtype)
    better_QKK = gains_QK[:, :, None] > gains_QK[:, None, :]  # i (first K) gains more than j (second)
    better_QKK &= mask_QK[:, :, None] & mask_QK[:, None, :]
    by_gain = weight == "true_rank"
    rank_QK = 1 + better_QKK.sum(dim=1) if by_gain else _positions(scores_QK.detach(), mask_QK)
    inverse_QK = rank_QK.to(scores_QK.dtype).reciprocal()
    # Where there is no pair the difference may be infinite (a masked score), so it is set to 0.
    behind_QKK = (scores_QK[:, None, :] - scores_QK[:, :, None]).masked_fill(~better_QKK, 0)
    weight_QKK = (inverse_QK[:, :, None] - inverse_QK[:, None, :]).abs() * better_QKK
    return (weight_QKK * softplus(behind_QKK)).sum() / max(1, scores_QK.shape[0])


def _positions(scores_QK: torch.Tensor, mask_QK: torch.Tensor) -> torch.Tensor:
    """Positions by descending score, from 1, the masked ones last."""
    order_QK = scores_QK.masked_fill(~mask_QK, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places_QK = torch.arange(1, scores_QK.shape[1] + 1, device=scores_QK.device).expand_as(order_QK)
    return torch.empty_like(order_QK).scatter_(1, order_QK, places_QK)


def in_batch_loss(scores_QN: torch.Tensor, best_Q: torch.Tensor, allowed_QN: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each query's best example against all examples of the batch, mean over the queries.

    Args:
        scores_QN: of the retriever.
        best_Q: column of the best example; -1: the query has none and adds nothing.
        allowed_QN: False where an example must not be a negative of the query (its own record, its own group, an
            equally good example).

    Returns:
        The loss, a scalar.
    """
    found_Q = best_Q >= 0
    if not found_Q.any():
        return scores_QN.sum() * 0
    best_Q = best_Q[found_Q]
    allowed_QN = allowed_QN[found_Q].scatter(1, best_Q[:, None], True)
    return cross_entropy(scores_QN[found_Q].masked_fill(~allowed_QN, -torch.inf), best_Q)


def mixed_loss(rank_loss: torch.Tensor, batch_loss: torch.Tensor, lambda_rank: float) -> torch.Tensor:
    """Weighted sum of the two losses.

    Args:
        rank_loss: of the lists.
        batch_loss: of the in-batch negatives.
        lambda_rank: weight of `rank_loss`, 0 to 1; `batch_loss` has the rest.

    Returns:
        The loss, a scalar.
    """
    return lambda_rank * rank_loss + (1 - lambda_rank) * batch_loss


def ndcg(
    scores_QK: torch.Tensor, gains_QK: torch.Tensor, mask_QK: torch.Tensor | None = None, *, k: int
) -> torch.Tensor:
    """NDCG@k: the gain over log2(1 + position), summed and divided by that of the ideal order.

    Args:
        scores_QK: of the retriever.
        gains_QK: 0 or more.
        mask_QK: True where there is a candidate; None: everywhere.
        k: positions that count.

    Returns:
        NDCG of each query (Q), 0 to 1; NaN where all gains are 0, so that there is no order.

    Raises:
        ValueError: for a negative gain.
    """
    if mask_QK is None:
        mask_QK = torch.ones_like(gains_QK, dtype=torch.bool)
    gains_QK = gains_QK.masked_fill(~mask_QK, 0)
    if (gains_QK < 0).any():
        raise ValueError("gains must be 0 or more")
    k = min(k, gains_QK.shape[1])
    discount_K = torch.log2(torch.arange(2, k + 2, dtype=torch.float64, device=gains_QK.device)).reciprocal()
    place_QK = _positions(scores_QK, mask_QK)
    shown_QK = torch.zeros_like(gains_QK).scatter_(1, place_QK - 1, gains_QK)[:, :k].double()
    best_QK = gains_QK.sort(dim=1, descending=True).values[:, :k].double()
    return (shown_QK @ discount_K) / (best_QK @ discount_K)
