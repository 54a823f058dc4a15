"""Hidden states of a model at several depths, in one forward pass of transformers: a Dataset of requests -> states.

Input columns: those of cluster.generate. Output columns, in their place: `hidden_states` (for each depth a list of
float: the last prompt token after that many layers and the final norm), `label_logprobs` (of the whole model, where the
request has labels), `num_prompt_tokens`, `error` ("" or "too_long"). Only `fit-judge` needs several depths; a fitted
judge then runs on the engine (cluster/model_layers.py). On CPUs prompts of a block that begin alike, as those of one
source do, share the computation of that beginning.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cluster import models, runtime
from cluster.engine import ScriptedEngine
from cluster.exchange import Request
from cluster.generate import REQUEST_COLUMNS, Batch
from cluster.model_specs import ScriptedSpec, VllmSpec, most
from cluster.precision import on_gpus
from cluster.tokens import encoder

if TYPE_CHECKING:
    from ray.data import Dataset

PROMPTS_ON_GPU = 16  # of a forward pass
TOKENS_ON_CPU = 1024  # of a forward pass, with padding
CACHED_ON_CPU = 16 * TOKENS_ON_CPU  # tokens whose keys and values are kept for it
PADDING = 0.5
SHARED = 0.25


class Asked(NamedTuple):
    """A prompt: its place in the batch, its token ids, and those of its labels."""

    place: int
    ids: list[int]
    label_ids: list[int]


def hidden_states(dataset: Dataset, spec: VllmSpec | ScriptedSpec, depths: Sequence[int]) -> Dataset:
    """Add the hidden states to `dataset`, lazily.

    Args:
        dataset: the input columns above.
        spec: the model.
        depths: numbers of layers, ascending; at most the model's.
    """
    if isinstance(spec, ScriptedSpec):
        return dataset.map_batches(_scripted, fn_args=(spec, len(depths)), batch_size=None)
    model = models.resolve(spec.source, revision=spec.revision, weights=runtime.is_one_machine()).reference
    threads = max(1, (os.cpu_count() or 1) // most(spec.num_engines))
    return dataset.map_batches(
        _Model,
        fn_constructor_args=(model, spec, tuple(depths), threads, on_gpus(spec)),
        batch_size=None,
        concurrency=spec.num_engines,
        num_cpus=spec.num_cpus,
        num_gpus=spec.num_workers if on_gpus(spec) else 0,
        resources=spec.resources or None,
        accelerator_type=spec.accelerator_type,
        runtime_env={"env_vars": runtime.KEEP_FREED_MEMORY},
    )


class _Model:
    """The loaded model in its own process."""

    def __init__(
        self, folder: str, spec: VllmSpec, depths: tuple[int, ...], threads: int, is_on_gpus: bool = False
    ) -> None:
        import torch
        from transformers import AutoModelForCausalLM, DynamicCache

        folder = models.local_folder(folder)
        torch.set_num_threads(threads)
        self._torch = torch
        self._has_gpu = is_on_gpus
        more = {"device_map": "auto"} if self._has_gpu else {}  # on as many GPUs as an engine has workers
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=spec.dtype, **more).eval()
        self._encoder = encoder(folder, spec)
        self._max_len = spec.max_model_len - 1
        self._depths = depths
        # A layer of sliding windows forgets, so what it knows of a prompt's beginning is gone at its end.
        self._has_windows = any(DynamicCache(config=self._model.config).is_sliding)

    def __call__(self, batch: Batch) -> Batch:
        columns = [list(batch.pop(name)) for name in REQUEST_COLUMNS]
        size = len(columns[0])
        found: list[dict[str, Any]] = [{} for _ in range(size)]
        asked: list[Asked] = []
        for place, (prompt, prefix, labels, _) in enumerate(zip(*columns, strict=True)):
            spelled = self._encoder.spelled_prefix(prefix, tuple(labels))
            ids = self._encoder.prompt_ids(prompt, spelled, self._max_len)
            if ids is None:
                none: list[float] = []
                found[place] = {"hidden_states": [none for _ in self._depths], "label_logprobs": none}
                found[place] |= {"num_prompt_tokens": 0, "error": "too_long"}
            else:
                asked.append(Asked(place, ids, self._label_ids(prefix, labels)))
        if self._has_gpu or self._has_windows:
            asked.sort(key=lambda one: len(one.ids))
            step = PROMPTS_ON_GPU if self._has_gpu else 1
            for start in range(0, len(asked), step):
                self._run(asked[start : start + step], found)
        else:
            for some, known in alike(asked):
                self._run_behind(known, some, found)
        return {**batch, **{name: [one[name] for one in found] for name in found[0]}} if found else batch

    def _label_ids(self, prefix: str, labels: Sequence[str]) -> list[int]:
        from cluster.errors import UserError

        try:
            return list(self._encoder.label_tokens(prefix, tuple(labels)).ids) if len(labels) else []
        except UserError:
            return []

    def _run_behind(self, known: int, asked: Sequence[Asked], found: list[dict[str, Any]]) -> None:
        """Prompts with the same first `known` tokens: one pass over these, then passes over the rest."""
        from transformers import DynamicCache

        first = DynamicCache(config=self._model.config)
        if known:
            tokens = self._torch.tensor([asked[0].ids[:known]])
            with self._torch.inference_mode():
                self._model.model(input_ids=tokens, past_key_values=first, use_cache=True)
        for some in of_like_length(asked, known):
            cache = copy.deepcopy(first) if known else None
            if cache is not None:
                cache.batch_repeat_interleave(len(some))
            self._run(some, found, cache, known)

    def _run(self, asked: Sequence[Asked], found: list[dict[str, Any]], cache: Any = None, known: int = 0) -> None:
        """One forward pass; prompts are padded on the right, which a causal model's last real token never sees.

        Args:
            asked: the prompts.
            found: gets the output at each place.
            cache: keys and values of the first `known` tokens of each prompt; None: there are none.
            known: number of these tokens.
        """
        torch = self._torch
        lengths = torch.tensor([len(one.ids) - known for one in asked])
        rest = [torch.tensor(one.ids[known:]) for one in asked]
        tokens = torch.nn.utils.rnn.pad_sequence(rest, batch_first=True)
        mask = (torch.arange(known + tokens.shape[1])[None] < known + lengths[:, None]).long()
        rows, last = torch.arange(len(asked)), lengths - 1
        base, device = self._model.model, self._model.device
        with torch.inference_mode(), _Taken(base.layers, self._depths, rows, last) as states:
            whole = base(
                input_ids=tokens.to(device),
                attention_mask=mask.to(device),
                past_key_values=cache,
                use_cache=cache is not None,
            ).last_hidden_state[rows, last]
            # The last layer's state is normed by the model itself.
            at = base.norm.weight.device
            normed = [whole if depth == len(base.layers) else base.norm(states[depth].to(at)) for depth in self._depths]
            logits = self._model.lm_head(whole).float()
            if cap := getattr(self._model.config, "final_logit_softcapping", None):
                logits = cap * torch.tanh(logits / cap)
            logprobs = torch.log_softmax(logits, dim=-1).cpu()
        for row, one in enumerate(asked):
            found[one.place] = {
                "hidden_states": [state[row].float().cpu().tolist() for state in normed],
                "label_logprobs": logprobs[row, one.label_ids].tolist() if one.label_ids else [],
                "num_prompt_tokens": len(one.ids),
                "error": "",
            }


def alike(asked: Sequence[Asked]) -> Iterator[tuple[list[Asked], int]]:
    """Prompts that begin alike together, each set with the number of its common first tokens, 0 for a single prompt.

    The common tokens are at least `SHARED` of each prompt, and never all of one.
    """
    some: list[Asked] = []
    known = 0
    for one in sorted(asked, key=lambda one: one.ids):
        # In sorted order what the first and the last have in common, all between them have.
        common = min(num_equal(some[0].ids, one.ids), len(some[0].ids) - 1, len(one.ids) - 1) if some else 0
        if some and common < SHARED * max(len(one.ids), *(len(other.ids) for other in some)):
            yield some, known
            some, known = [], 0
        some, known = [*some, one], common if some else 0
    if some:
        yield some, known


def of_like_length(asked: Sequence[Asked], known: int) -> Iterator[list[Asked]]:
    """Parts of a pass's size whose rests, behind `known` tokens, are padded by at most `PADDING` of their length."""
    some: list[Asked] = []
    for one in sorted(asked, key=lambda one: len(one.ids)):
        length = len(one.ids) - known
        longest = (1 + PADDING) * (len(some[0].ids) - known) if some else length
        is_too_much = (len(some) + 1) * length > TOKENS_ON_CPU or (len(some) + 1) * len(one.ids) > CACHED_ON_CPU
        if some and (length > longest or is_too_much):
            yield some
            some = []
        some.append(one)
    if some:
        yield some


def num_equal(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of first tokens that are the same."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


class _Taken:
    """Within the context, keeps the last token's state behind the layers of `depths`, by depth."""

    def __init__(self, layers: Any, depths: Sequence[int], rows: Any, last: Any) -> None:
        self._layers, self._depths, self._rows, self._last = layers, depths, rows, last

    def __enter__(self) -> dict[int, Any]:
        states: dict[int, Any] = {}

        def keep(depth: int) -> Any:
            def hook(_module: Any, _given: Any, out: Any) -> None:
                states[depth] = (out[0] if isinstance(out, tuple) else out)[self._rows, self._last]

            return hook

        self._hooks = [self._layers[depth - 1].register_forward_hook(keep(depth)) for depth in self._depths]
        return states

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()


def _scripted(batch: Batch, spec: ScriptedSpec, num_depths: int) -> Batch:
    """Deterministic states without a model, the same at every depth."""
    columns = [list(batch.pop(name)) for name in REQUEST_COLUMNS]
    engine = ScriptedEngine(spec)
    states, scores = [], []
    for prompt, prefix, labels, schema in zip(*columns, strict=True):
        states.append(engine.answer(Request(prompt, prefix, hidden_state=True)))
        scores.append(engine.answer(Request(prompt, prefix, tuple(labels), schema)))
    return {
        **batch,
        "hidden_states": [[list(one.hidden_state)] * num_depths for one in states],
        "label_logprobs": [list(one.label_logprobs) for one in scores],
        "num_prompt_tokens": [one.num_prompt_tokens for one in states],
        "error": [one.error or "" for one in states],
    }
