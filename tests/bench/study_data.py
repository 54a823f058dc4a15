"""A part of the study on another data set: `python -m tests.bench.study_data PART DATASET ASPECT SHARE [SHARE]`.

PART: `prompts`, `examples` or `votes`, which is configs/study-PART.yaml; SHARE: of the data set's groups, chosen by
hash; the second one: of those that `transfer` judges with every prompt. The run is runs/study-PART-DATASET, and
`prompts` uses the inversion models of runs/study-inversion. The same command resumes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cluster.__main__ import main as inverdict

JOBS = {
    "prompts": ("invert", "optimise", "evaluate", "transfer"),
    "examples": ("feedback", "fit", "index", "evaluate"),
    "votes": ("panel", "evaluate", "report"),
}
WITH_ASPECTS = {
    "prompts": ("invert", "optimise", "transfer", "evaluate"),
    "examples": ("feedback", "evaluate"),
    "votes": ("evaluate",),
}
OF_ANOTHER = {"inverse_of_smollm2": "smollm2/inverse"} | {
    f"large_{source}_of_qwen": f"qwen/{source}" for source in ("forward", "inverse")
}
UNSCORED = 3  # exit code: more rows without a score than `max_unscored_share`


def main(arguments: Sequence[str]) -> int:
    if not 4 <= len(arguments) <= 5 or arguments[0] not in JOBS:
        print(__doc__)
        return 2
    part, dataset, aspect, share, *transfer = arguments
    for job in JOBS[part]:
        of_job = transfer[0] if job == "transfer" and transfer else share
        code = inverdict([job, f"configs/study-{part}.yaml", *changes(part, dataset, aspect, of_job)])
        if code not in (0, UNSCORED):
            return code
    return 0


def changes(part: str, dataset: str, aspect: str, share: str) -> list[str]:
    """The options that make the configuration of a part one of this data set and aspect."""
    run = Path("runs") / f"study-{part}-{dataset}"
    found = [f"run={run}", f"data.records=[dataset:{dataset}]", f"data.groups_share={share}"]
    if part != "votes":
        found.append(f"data.pool=[dataset:{dataset}]")
    found += [f"{job}.aspects=[{aspect}]" for job in WITH_ASPECTS[part]]
    if part == "prompts":
        found += [f"evaluate.judges.{judge}.prompt={run}/invert/{prompt}" for judge, prompt in OF_ANOTHER.items()]
    return [word for change in found for word in ("--set", change)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
