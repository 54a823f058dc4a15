"""The metrics of all replicas, from Ray's exporters on every node, for `/metrics`."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

OURS = ("ray_inverdict_", "ray_vllm_")  # vLLM's own, of a model with `engine_metrics`
TIMEOUT_S = 3.0


async def replica_metrics() -> str:
    """The lines of all living nodes in Prometheus' text format; a comment for each node that does not respond."""
    import ray

    nodes = [node for node in await asyncio.to_thread(ray.nodes) if node["Alive"] and node["MetricsExportPort"] > 0]
    addresses = [_address(node) for node in nodes]
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        texts = await asyncio.gather(*(_exported(http, address) for address in addresses))
    return merged(dict(zip(addresses, texts, strict=True)))


def _address(node: dict[str, Any]) -> str:
    host = node["NodeManagerAddress"]
    return f"{f'[{host}]' if ':' in host else host}:{node['MetricsExportPort']}"


async def _exported(http: httpx.AsyncClient, address: str) -> str | None:
    try:
        answer = await http.get(f"http://{address}/metrics")
    except httpx.HTTPError:
        return None
    return answer.text if answer.is_success else None


def merged(texts: dict[str, str | None]) -> str:
    """Our lines of several exporters, the lines of a metric together, as the format demands.

    Args:
        texts: what each exporter returned, by address; None: it did not respond.
    """
    head: dict[str, list[str]] = {}  # metric -> its HELP and TYPE
    samples: dict[str, list[str]] = {}
    for text in texts.values():
        metric = ""
        for line in (text or "").splitlines():
            if line.startswith(("# HELP ", "# TYPE ")):
                metric = line.split(" ", 3)[2]
                if metric.startswith(OURS) and line not in head.setdefault(metric, []):
                    head[metric].append(line)
            elif line.startswith(OURS):
                samples.setdefault(metric, []).append(line)
    lines = [line for metric in head for line in (*head[metric], *samples.get(metric, ()))]
    lines += [f"# {address} does not respond." for address, text in texts.items() if text is None]
    return "".join(f"{line}\n" for line in lines)
