"""A run for the tests of certificates: scripted judges that read a text's level, and some with planted biases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster import feasibility as demands
from cluster import runtime
from cluster.generate import _EngineActor
from cluster.model_specs import ModelSpec
from cluster.terminal import say
from evaluation.batch import inference as asking
from evaluation.batch.verdicts import Blocks, done_keys, pending, requests, write_verdicts
from evaluation.judges.judge_config import JudgeConfig
from judging.certificates.perturbations import PADDING, attacks
from judging.errors import InputError
from judging.judge import Judge
from tests.evaluation.making import jsonl, row

LEVELS = (1, 2, 3, 4, 5)
OWN = ", gladly"


def candidate(level: int, *, own: bool = False) -> str:
    """A text that states its level, to which its length is unrelated. `own`: in the words of the model family `own`."""
    return f"It is of level {level}{OWN if own else ''}. Nothing else is said.{' Indeed.' if level in (2, 5) else ''}"


def rule(contains: str, label: int) -> dict[str, Any]:
    """A rule of a scripted judge: all probability on one label where the prompt contains the words."""
    return {"contains": contains, "label_logprobs": {str(one): 0.0 if one == label else -30 for one in LEVELS}}


def pair_rules() -> list[dict[str, Any]]:
    """The higher level wins in either position."""
    texts = [(level, candidate(level, own=own)) for level in LEVELS for own in (False, True)]
    return [
        rule(f"Text 1:\n<candidate>\n{one}\n</candidate>\nText 2:\n<other>\n{other}\n", 1 if high > low else 2)
        for high, one in texts
        for low, other in texts
        if high != low
    ]


def level_rules() -> list[dict[str, Any]]:
    return [rule(f"of level {level}", level) for level in LEVELS]


OBEYED = ("ask_for_top", "override", "fake_json", "authority", "threat", "rubric_change")
SURE = [*pair_rules(), *level_rules()]
BIASES: dict[str, list[dict[str, Any]]] = {
    "position": [rule("Text 1:", 1)],
    "length": [rule(PADDING[0], 5)],
    "format": [rule("- It is", 1)],
    "own_family": [rule(f"of level {level}{OWN}", min(level + 2, 5)) for level in LEVELS],
    "injection": [rule(attack.text, 5) for attack in attacks() if attack.name in OBEYED],
}


def model(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"backend": "scripted", "rules": list(rules)}


def records(num_groups: int = 24) -> list[dict[str, Any]]:
    """Three texts per group, of three levels; the last one is by the system `own-1`."""
    return [
        row(
            f"r{group}-{place}",
            f"g{group}",
            system="own-1" if place == 2 else f"s{place}",
            candidate=candidate(level, own=place == 2),
            scores={"overall": level},
        )
        for group in range(num_groups)
        for place, level in enumerate(((group + step) % 5 + 1) for step in (0, 2, 3))
    ]


def configuration(
    folder: Path,
    judges: dict[str, Any],
    models: dict[str, Any],
    *,
    rows: list[dict[str, Any]] | None = None,
    data: dict[str, Any] | None = None,
    **sections: Any,
) -> str:
    """The path of a configuration that evaluates `rows` (None: `records()`) and certifies."""
    file = jsonl(folder / "in.jsonl", records() if rows is None else rows)
    config = {
        "run": str(folder / "run"),
        "data": {"records": [file], **(data or {})},
        "models": models,
        "evaluate": {"judges": judges, "max_unscored_share": 1},
        "certify": {"resamples": 200},
        **sections,
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "c.yaml")


def ask_here(
    folder: Path,
    blocks: Blocks,
    configs: Mapping[str, JudgeConfig],
    models: Mapping[str, ModelSpec],
    judges: Mapping[str, Judge],
    *,
    aspects: tuple[str, ...] | None,
    seed: int,
    what: str,
) -> None:
    """The same requests, engines and verdicts as in Ray's workers, in this process."""
    for name, judge in judges.items():
        done = done_keys(folder / "verdicts" / name)
        parts = pending(blocks, done)
        if not parts:
            continue
        say(f"{name}: starting the model")
        asked = {"judge": [name] * len(parts), "part": list(map(str, parts))}
        engine = _EngineActor(models[configs[name].model], asking._sampling(configs[name], seed))  # type: ignore[arg-type]
        replies = engine(requests(asked, {name: judge}, aspects, {name: done}))
        write_verdicts(replies, {name: judge}, str(folder / "verdicts"))


def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """All judges run in this process."""
    monkeypatch.setattr(runtime, "start", lambda config: None)
    monkeypatch.setattr(demands, "check", lambda run, names: None)
    monkeypatch.setattr(asking, "_ask_those", ask_here)


@contextmanager
def contaminated(*values: str) -> Iterator[None]:
    """The block must report a contamination whose message contains all values."""
    with pytest.raises(InputError) as caught:
        yield
    assert (caught.value.code, caught.value.key) == ("contaminated", "")
    assert [value for value in values if value not in str(caught.value)] == []
