"""The registry of commands and configuration sections: name -> module, help, example. Imports none of them."""

from __future__ import annotations

import importlib
from typing import Any

# Job -> its module, which has `main(run, ...)` and `render(summary)`, and its line of help. `inverdict run` executes
# those with a section in the configuration, in this order; `report` follows `evaluate`.
JOBS = {
    "distill": ("train.distill", "generate responses to an instruction set (training data for the inversion model)"),
    "sft": ("train.finetuning.sft", "fine-tune inversion models on swapped instruction-response pairs (Ray Train)"),
    "invert": ("train.inversion.invert", "generate a judge's evaluation prompt from one rated example by inversion"),
    "optimise": (
        "train.optimisation.optimise",
        "rewrite a judge's prompt from the labelled texts with its largest errors",
    ),
    "feedback": (
        "retrieval.feedback",
        "measure the utility of rated examples: the judge's error with each in the prompt",
    ),
    "fit": ("retrieval.fit", "train the two-tower retriever of few-shot examples on that feedback (Ray Train)"),
    "index": ("retrieval.build_index", "index the pool of rated texts for few-shot retrieval (FAISS)"),
    "fit-judge": (
        "evaluation.fitting.fit_judge",
        "fit judges on human labels: a regression on the model's hidden state (score_mode: fitted)",
    ),
    "panel": (
        "evaluation.panel_selection",
        "select the best judge for each task and aspect and fit a vote, on a dev set",
    ),
    "evaluate": (
        "evaluation.batch.evaluate",
        "score records with every judge and aggregate the votes (scores.parquet)",
    ),
    "certify": (
        "evaluation.certification.certify",
        "test the judges for biases and issue certificates for those that pass on this data",
    ),
    "report": (
        "evaluation.reporting.report",
        "measure the agreement with human ratings (metrics.json, table, report.html)",
    ),
    "transfer": ("evaluation.transfer", "cross-evaluate every model's prompts under every judge (agreement matrix)"),
}


# Jobs whose files only the driver's node reads and writes; the others need a run directory that all nodes mount.
ON_OBJECT_STORE = tuple(job for job in JOBS if job not in ("sft", "fit"))

RETRIES = ("feedback", "evaluate")  # jobs that can run inference again for rows without a score


# Commands with the same `main` and `render` as a job that `inverdict run` does not execute.
LOOKS = {
    "plan": (
        "train.planning.plan",
        "estimate the cost of a configuration's jobs (tokens, hours, bytes) without running them",
    ),
    "compare": (
        "evaluation.compare",
        "compare the systems of a finished evaluation: ranking, intervals, labels and judge together",
    ),
    "gate": (
        "evaluation.gate",
        "check requirements against a finished report; exit code 4 if one fails (for continuous integration)",
    ),
    "submission": (
        "evaluation.submission",
        "write a finished evaluation as the submission file of the AEOLLM task (submission.txt)",
    ),
    "plan-labels": (
        "evaluation.label_plan",
        "estimate how many groups to label to distinguish judges, and select the texts to label next",
    ),
}


# Of these, the commands that write nothing to the run directory.
READ_ONLY = tuple(name for name in LOOKS if name != "submission")


RUN = ("", f"run all jobs of a configuration, in this order: {', '.join(JOBS)}")
SERVE = ("serve.app", "serve the judges of a configuration over HTTP")
CONFIG = ("", "print the resolved configuration, or the JSON schema of all keys")


# A module with `main(run, job)`, called before a job's first work: it raises where a public data set is missing.
INPUTS = "evaluation.data_inputs"


# Configuration section -> its class.
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
    "fit_judge": "evaluation.fitting.config:Config",
    "panel": "evaluation.panel_selection:Config",
    "evaluate": "evaluation.batch.config:Config",
    "serve": "serve.panel.config:Config",
    "certify": "evaluation.certification.certify:Config",
    "report": "evaluation.reporting.report:Config",
    "transfer": "evaluation.transfer:Config",
    "plan": "train.planning.plan:Config",
}


# Other commands -> their module, which has `add_arguments(parser)` and `main(args)`.
TOOLS = {
    "init": (
        "evaluation.init_config",
        "look at a file of texts, print what each column is taken for, and write a configuration that runs",
    ),
    "agreement": (
        "judging.stats.cli",
        "compute agreement statistics for the scores of any tool (JSONL: group, system, human, score)",
    ),
    "submit": (
        "cluster.submit",
        "run a job on a Ray cluster through its job server, follow its log and return its exit code",
    ),
    "doctor": ("cluster.doctor", "check whether this machine or a cluster can run a configuration"),
    "models": ("cluster.models", "list or fetch the embedded models"),
    "data": ("evaluation.data_command", "list, fetch or show public data sets, which configurations name dataset:NAME"),
    "keys": ("serve.api.api_keys", "create, list or revoke API keys of a server"),
    "view": (
        "serve.view",
        "show a run's report and records in a browser on this machine, also while it goes on",
    ),
}


# Command -> the example at the end of its `--help`, a command line without `inverdict`, or several, one per line.
# tests/cluster/test_help.py checks that they are valid and that their configuration exists.
EXAMPLES = {
    "run": "run configs/demo.yaml --set run=runs/mine",
    "distill": "distill configs/inversion.yaml",
    "sft": "sft configs/inversion.yaml --set sft.epochs=2",
    "invert": "invert configs/prompts.yaml",
    "optimise": "optimise configs/full-small.yaml",
    "feedback": "feedback configs/examples.yaml --retry-failed",
    "fit": "fit configs/examples.yaml --set fit.epochs=5",
    "index": "index configs/examples.yaml",
    "fit-judge": "fit-judge configs/fitted.yaml",
    "panel": "panel configs/full-small.yaml",
    "evaluate": "evaluate configs/topical_chat.yaml --set evaluate.vote.rule=median",
    "certify": "certify configs/topical_chat.yaml",
    "report": "report configs/topical_chat.yaml --json",
    "transfer": "transfer configs/prompts.yaml",
    "plan": "plan configs/gpu.yaml",
    "compare": "compare configs/topical_chat.yaml --json",
    "gate": "gate configs/demo.yaml --require 'panel.group.spearman >= .4' --require 'system writer-a - writer-e > 0'",
    "submission": "submission configs/aeollm.yaml",
    "plan-labels": "plan-labels configs/topical_chat.yaml --out to_label.jsonl",
    "serve": "serve configs/demo.yaml --set serve.port=8080",
    "config": "config show configs/demo.yaml --set seed=1",
    "init": "init examples/constructed.jsonl --out mine.yaml\n"
    "init answers.csv --systems gpt-4,llama --map prompt=source --task summarisation\n"
    "init hf://OWNER/NAME:test --out answers.yaml",
    "agreement": "agreement scores.jsonl --baseline length",
    "submit": "submit run configs/gpu.yaml --address http://127.0.0.1:8265 --set run=/shared/runs/gpu",
    "doctor": "doctor configs/gpu.yaml --address auto",
    "models": "models fetch smollm2-135m-instruct\ndoctor configs/demo.yaml",
    "data": "data list\ndata fetch topical_chat summeval\ndata show topical_chat\nrun configs/topical_chat.yaml",
    "keys": "keys new keys.json --name ci\nserve configs/demo.yaml --set serve.keys_file=keys.json",
    "view": "view runs/demo",
}


def section_of(job: str) -> str:
    """The section of the configuration whose presence makes `inverdict run` execute the job."""
    return "evaluate" if job == "report" else job.replace("-", "_")


def jobs_of(run: Any) -> list[str]:
    """The jobs of `inverdict run`: those with a section, and `report` if there is an evaluation."""
    return [job for job in JOBS if getattr(run, section_of(job)) is not None]


def sections() -> dict[str, Any]:
    """The class of every section; imports the jobs' modules."""
    places = {name: place.split(":") for name, place in SECTIONS.items()}
    return {name: getattr(importlib.import_module(module), cls) for name, (module, cls) in places.items()}
