"""The lines of several exporters as one answer, and a node that does not respond."""

from typing import Any

import httpx
import pytest

from serve import node_metrics

A = """# HELP ray_inverdict_votes_total Votes with a score.
# TYPE ray_inverdict_votes_total counter
ray_inverdict_votes_total{WorkerId="a",judge="first"} 3.0
# HELP ray_node_cpu x
# TYPE ray_node_cpu gauge
ray_node_cpu 1.0
# HELP ray_vllm_kv_cache_usage_perc x
# TYPE ray_vllm_kv_cache_usage_perc gauge
ray_vllm_kv_cache_usage_perc{WorkerId="c"} 0.5
"""
B = A.replace('WorkerId="a"', 'WorkerId="b"').replace("3.0", "4.0").partition("# HELP ray_node")[0]


def test_a_metric_s_lines_stand_together_and_those_of_others_are_left_out() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    text = node_metrics.merged({"one:1": A, "two:1": B, "three:1": None})
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {"ray_inverdict_votes", "ray_vllm_kv_cache_usage_perc"}
    votes = {one.labels["WorkerId"]: one.value for one in families["ray_inverdict_votes"].samples}
    assert votes == {"a": 3, "b": 4}
    assert text.count("# HELP ray_inverdict_votes_total") == 1
    assert "# three:1 does not respond." in text


async def test_every_living_node_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def node(host: str, port: int, is_alive: bool = True) -> dict[str, Any]:
        return {"NodeManagerAddress": host, "MetricsExportPort": port, "Alive": is_alive}

    def answered(request: httpx.Request) -> httpx.Response:
        if request.url.port == 2:
            raise httpx.ConnectError("gone")
        return httpx.Response(200, text=A if request.url.host == "one" else B)

    nodes = [node("one", 1), node("one", 2), node("::1", 3), node("dead", 4, is_alive=False), node("small", 0)]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    client = httpx.AsyncClient
    monkeypatch.setattr(httpx, "AsyncClient", lambda timeout: client(transport=httpx.MockTransport(answered)))
    text = await node_metrics.replica_metrics()
    assert text.count("ray_inverdict_votes_total{") == 2
    assert [line for line in text.splitlines() if "respond" in line] == ["# one:2 does not respond."]
