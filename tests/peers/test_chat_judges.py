"""A peer's own judge on a model that we serve: each row gets a score on the peer's scale, or the peer says why not."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from tests.peers import judges
from tests.peers.conftest import NUM_ROWS, note
from tests.peers.judges import Endpoint


class Peer(NamedTuple):
    package: str
    driver: str
    driven: str
    scale: tuple[float, float]
    unscored: str  # the peer's words for a reply that it cannot read
    is_constrained: bool = False  # it asks for a JSON schema, so only a reply that is cut off cannot be read
    num_rows: int = NUM_ROWS


PEERS = [
    Peer("deepeval", "deepeval_local", "G-Eval, LocalModel", (0, 1), "invalid JSON"),
    Peer("deepeval", "deepeval_openai", "G-Eval, OpenAIModel, JSON schema", (0, 1), "invalid JSON", True),
    Peer("inspect-ai", "inspect_ai", "model_graded_qa", (0, 1), "grader_failed"),
    # It may ask eleven times, one request after the other.
    Peer("prometheus-eval", "prometheus_eval", "absolute grade, LiteLLM", (1, 5), "Failed to generate", num_rows=1),
    Peer("openevals", "openevals", "create_llm_as_judge, ChatOpenAI", (1, 5), "length limit was reached", True),
    Peer("mlflow", "mlflow", "make_judge", (1, 5), "Failed to parse response", True),
]


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.driver)
def test_a_peer_s_judge(judge: Endpoint, rows: list[dict[str, Any]], peer: Peer) -> None:
    rows = rows[: peer.num_rows]
    found = getattr(judges, peer.driver)(judge, rows)
    note(peer.package, peer.driven, found)
    low, high = peer.scale
    assert len(found) == len(rows)
    assert all(low <= one.score <= high for one in found if one.score is not None)
    assert all(peer.unscored in one.unscored for one in found if one.score is None), found
    assert any(one.score is not None for one in found) or not peer.is_constrained
