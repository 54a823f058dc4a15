"""Which jobs, tools and configuration sections there are: name -> where its code stands. Imports none of them."""

from __future__ import annotations

import importlib
from typing import Any

# Job -> its module, which has `main(run, ...)` and `render(summary)`. `run` does, in this order, those whose section
# the configuration has; `report` follows `evaluate`.
JOBS = {
    "distill": ("train.distill", "let a judge's model answer instructions: the data of its inversion"),
    "sft": ("train.finetuning.sft", "fine-tune inversion models on swapped pairs (Ray Train)"),
    "invert": ("train.inversion.invert", "one rated example -> the judge's own evaluation template"),
    "optimise": (
        "train.optimisation.optimise",
        "rewrite a judge's instruction from the labelled texts it gets most wrong",
    ),
    "feedback": ("retrieval.feedback", "what each example is worth to the judge: its error with it in the prompt"),
    "fit": ("retrieval.fit", "train the two towers that find helpful examples on that feedback (Ray Train)"),
    "index": ("retrieval.build_index", "index the rated texts that may be shown as examples (FAISS)"),
    "panel": (
        "evaluation.panel_selection",
        "on a dev part: the best judge for each task and aspect, a learned vote",
    ),
    "evaluate": ("evaluation.batch.evaluate", "judge records with every judge and vote: scores.parquet"),
    "certify": (
        "evaluation.certification.certify",
        "probe the judges for bias, certify those that can be trusted here",
    ),
    "report": ("evaluation.reporting.report", "the agreement with people: metrics.json, a table, report.html"),
    "transfer": ("evaluation.transfer", "every model's prompts under every judge: the matrix of agreement"),
}


RETRIES = ("feedback", "evaluate")  # jobs that can ask again where a model gave no score


# Beside the jobs, with the same `main` and `render`: they only look at a configuration, so `run` leaves them out.
LOOKS = {
    "plan": ("train.planning.plan", "what the jobs of a configuration will cost: tokens, hours, bytes; starts nothing"),
    "submission": ("evaluation.submission", "a finished evaluation as the CSV file of the AEOLLM task: submission.csv"),
    "plan-labels": (
        "evaluation.label_plan",
        "how many groups to label to tell judges apart, and which texts to label next",
    ),
}


SERVE = ("serve.app", "answer over HTTP with the panel of a configuration, until it is stopped")


# Section of the configuration -> where its class stands.
SECTIONS = {
    "data": "judging.data_config:DataConfig",
    "instructions": "train.instructions:InstructionConfig",
    "distill": "train.distill:Config",
    "sft": "train.finetuning.sft:Config",
    "invert": "train.inversion.config:Config",
    "optimise": "train.optimisation.config:Config",
    "feedback": "retrieval.feedback_config:Config",
    "fit": "retrieval.fit:Config",
    "index": "retrieval.build_index:Config",
    "panel": "evaluation.panel_selection:Config",
    "evaluate": "evaluation.batch.config:Config",
    "serve": "serve.panel.config:Config",
    "certify": "evaluation.certification.certify:Config",
    "report": "evaluation.reporting.report:Config",
    "transfer": "evaluation.transfer:Config",
    "plan": "train.planning.plan:Config",
}


# Commands beside the jobs -> their module, which has `add_arguments(parser)` and `main(args)`.
TOOLS = {
    "agreement": (
        "judging.stats.cli",
        "agreement statistics for anybody's scores (JSONL: group, system, human, score)",
    ),
    "submit": ("cluster.submit", "run a job on a Ray cluster through its job server, follow it, take its exit code"),
    "doctor": ("cluster.doctor", "whether this machine, or a cluster, can do what a configuration asks for"),
    "models": ("cluster.models", "list or fetch the embedded models"),
    "keys": ("serve.api.api_keys", "make, list or revoke API keys of a server"),
}


def sections() -> dict[str, Any]:
    places = {name: place.split(":") for name, place in SECTIONS.items()}
    return {name: getattr(importlib.import_module(module), cls) for name, (module, cls) in places.items()}
