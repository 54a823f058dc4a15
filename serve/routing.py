"""Which replica of an evaluator gets a request: requests of one group go to the one whose cache holds their prefix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ray

# `ray.serve.llm.request_router` exports the same class, but imports vLLM: 0.7 GB and seconds in every panel replica.
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router import PrefixCacheAffinityRouter
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree import PrefixTreeActor
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

# If less than this share of a prompt is in a replica's cache, the replica with the least text is chosen: otherwise a
# template alone would draw all new groups to one replica.
MATCH_RATE = 0.5


class PrefixRouter(PrefixCacheAffinityRouter):  # type: ignore[misc]
    """Ray's prefix-aware router for a judge's `Request` and for a chat body; other calls go to the shorter queue.

    Ray's own raises for the body, a dict, and for an empty prompt.
    """

    def initialize_state(self, **options: Any) -> None:
        """As Ray's, whose actor for the prefixes of all routers waits for a whole CPU: engines may have taken them."""
        tree = PrefixTreeActor.options(
            name=f"prefixes:{self._deployment_id.app_name}:{self._deployment_id.name}",
            namespace=SERVE_NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
        ).remote()
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        ray.get(controller._register_shutdown_cleanup_actor.remote(tree))
        super().initialize_state(**options, tree_actor=tree)

    async def _prefix_match_best_replicas(self, pending_request: Any, candidate_replicas: list[Any]) -> list[list[Any]]:
        """As Ray's; none, and so the shorter queue, where the tree names a replica that this router does not know.

        That happens while replicas come and go. Ray's would raise, and leave the request without a replica.
        """
        try:
            found: list[list[Any]] = await super()._prefix_match_best_replicas(pending_request, candidate_replicas)
        except KeyError:
            return [[]]
        return found

    def _extract_text_from_request(self, pending_request: Any) -> str | None:
        for argument in pending_request.args:
            if isinstance(prompt := getattr(argument, "prompt", None), str):
                return prompt or None
            if isinstance(argument, Mapping) and "messages" in argument:
                return self._normalize_prompt_to_string(argument["messages"]) or None
        return None


def router_config(target_ongoing: int) -> Any:
    """A deployment's `request_router_config`.

    Args:
        target_ongoing: concurrent requests of a replica under full load; where two differ by more than half of it, the
            shorter queue counts and not the cache.
    """
    from ray.serve.config import RequestRouterConfig

    return RequestRouterConfig(
        request_router_class=PrefixRouter,
        request_router_kwargs={
            "imbalanced_threshold": max(1, target_ongoing // 2),
            "match_rate_threshold": MATCH_RATE,
            "do_eviction": True,  # or the router would remember every prompt for ever
        },
    )
