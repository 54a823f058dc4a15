"""The evaluator of a vLLM model: Ray Serve's LLM server, which also answers a judge's request as in batch.

Online and batch both tokenise prompt and labels with cluster/tokens.py and read the same labels' log-probabilities, so
their scores differ by the engine's rounding alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from ray.serve.llm import LLMConfig
from ray.serve.llm.deployment import LLMServer

from cluster.adapters import Adapter, check_here
from cluster.exchange import Reply, Request
from cluster.generate import NOT_NORMALISED, label_logprobs
from cluster.model_specs import VllmSpec
from cluster.models import local_folder
from cluster.reasoning import apart, sampling_parameters
from cluster.tokens import Encoder, encoder


class VllmServer(LLMServer):  # type: ignore[misc]
    """`spec`, `reference`: the model's specification in the configuration, and what this node gets its folder by.
    `adapters`: the LoRA adapters that the configuration names, by name under `models`; there are no others.
    """

    async def __init__(  # type: ignore[misc]
        self, llm_config: LLMConfig, spec: VllmSpec, reference: str, adapters: Mapping[str, Adapter]
    ) -> None:
        from vllm.lora.request import LoRARequest

        self._spec = spec
        self._folder = local_folder(reference)
        for adapter in adapters.values():
            check_here(adapter, Path(self._folder))
        llm_config.get_engine_config().hf_model_id = self._folder
        await super().__init__(llm_config)
        self._name = llm_config.model_id
        self._loras = {
            name: LoRARequest(lora_name=name, lora_int_id=number, lora_path=str(adapter.path))
            for number, (name, adapter) in enumerate(adapters.items(), start=1)
        }
        for name, lora in self._loras.items():
            await self.engine._engine_client.add_lora(lora)  # one that cannot be loaded fails here
            self.engine._oai_models.lora_requests[name] = lora  # for chat completions, by the body's `model`

    async def ping(self) -> bool:
        await self.check_health()
        return True

    async def answer(self, request: Request) -> Reply:
        """The reply to one judge's request; an invalid request is a reply with an error, not an exception."""
        from vllm import SamplingParams, TokensPrompt
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        if request.model not in ("", self._name, *self._loras):
            return Reply(error="error", detail=f"{self._name} has no LoRA adapter {request.model!r}")
        known = encoder(self._folder, self._spec)
        if request.hidden_state:
            return await self._hidden_state(known, request)
        spelled = known.label_tokens(request.reply_prefix, request.labels) if request.labels else None
        room = self._spec.max_model_len - (1 if spelled else self._spec.reply_tokens(request.max_tokens))
        ids = known.prompt_ids(request.prompt, spelled.prefix if spelled else request.reply_prefix, room)
        if ids is None:
            return Reply(error="too_long", detail="the prompt is longer than the model's context")
        if spelled:
            params = SamplingParams(temperature=0.0, max_tokens=1, logprob_token_ids=list(spelled.ids))
        else:
            length = {"max_tokens": request.max_tokens, **sampling_parameters(self._spec, request.max_tokens)}
            params = SamplingParams(
                **length,
                temperature=request.temperature,
                top_p=request.top_p,
                top_k=request.top_k,
                seed=request.seed,
                structured_outputs=StructuredOutputsParams(json=request.json_schema) if request.json_schema else None,
            )
        params.output_kind = RequestOutputKind.FINAL_ONLY
        try:
            prompt = TokensPrompt(prompt_token_ids=ids)
            replies = self.engine._engine_client.generate(
                prompt, params, uuid.uuid4().hex, lora_request=self._loras.get(request.model)
            )
            *_, output = [one async for one in replies]
        except ValueError as error:
            return Reply(error="error", detail=str(error)[:200])
        generated = output.outputs[0]
        reply = Reply(
            text="" if spelled else generated.text,
            finish_reason="length" if not spelled and generated.finish_reason == "length" else "stop",
            label_logprobs=label_logprobs(_plain(generated.logprobs), list(spelled.ids)) if spelled else (),
            num_prompt_tokens=len(ids),
            num_generated_tokens=len(generated.token_ids),
            num_cached_tokens=output.num_cached_tokens or 0,
        )
        return reply if spelled else apart(reply, known.chat.opened if known.chat else "")

    async def _hidden_state(self, known: Encoder, request: Request) -> Reply:
        """The last token's hidden state, of an engine that runs a cut model."""
        from vllm import PoolingParams, TokensPrompt

        prefix = known.spelled_prefix(request.reply_prefix, request.labels)
        ids = known.prompt_ids(request.prompt, prefix, self._spec.max_model_len - 1)
        if ids is None:
            return Reply(error="too_long", detail="the prompt is longer than the model's context")
        params = PoolingParams(task="embed", **NOT_NORMALISED)
        try:
            prompt = TokensPrompt(prompt_token_ids=ids)
            *_, output = [one async for one in self.engine._engine_client.encode(prompt, params, uuid.uuid4().hex)]
        except ValueError as error:
            return Reply(error="error", detail=str(error)[:200])
        return Reply(hidden_state=tuple(output.outputs.data.float().tolist()), num_prompt_tokens=len(ids))

    async def chat_body(self, body: dict[str, Any]) -> AsyncIterator[dict[str, Any] | str]:
        """vLLM's own answer to a validated chat body: one dict, or with `stream` lines of server-sent events."""
        from ray.serve.llm.openai_api_models import ChatCompletionRequest

        async for part in await self.chat(ChatCompletionRequest(**self._as_configured(body))):
            for one in part if isinstance(part, list) else [part]:
                yield one if isinstance(one, str) else json.loads(one.model_dump_json(exclude_none=False))

    def _as_configured(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with the variables of the chat template, and the budget of the thinking, that the model has."""
        chat = encoder(self._folder, self._spec).chat
        more: dict[str, Any] = {"chat_template_kwargs": chat.variables} if chat and chat.variables else {}
        return {
            **body,
            **more,
            **({"thinking_token_budget": self._spec.thinking_token_budget} if self._spec.thinks else {}),
        }


def _plain(logprobs: Any) -> list[dict[int, Mapping[str, float]]]:
    """vLLM's objects in the form of Ray's batch stage."""
    return [{token: {"logprob": entry.logprob} for token, entry in dict(logprobs[0]).items()}]
