"""A trained model on disk: adapter, merged model for vLLM and transformers, training.json, model card."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.artifacts import whole_folder, write_text
from train.finetuning.worker_args import Settings

# Everything else of the base model's folder is copied unchanged, above all the tokenizer with its chat template.
NOT_TAKEN = ("*.safetensors", "*.bin", "*.index.json", "config.json", "inverdict.json", "README.md", ".*")
RECIPE = (
    *("method", "lora_rank", "lora_alpha", "lora_dropout", "learning_rate", "weight_decay", "warmup_share", "epochs"),
    *("per_device_batch", "accumulation", "parallel", "seed"),
)


def save(settings: Settings, model: Any, facts: dict[str, Any]) -> None:
    """Write adapter, merged model and training.json, each atomically.

    Args:
        settings: of the training.
        model: the trained model, with LoRA layers under that method.
        facts: the contents of `training.json`.
    """
    out = Path(settings.out)
    if settings.method == "lora":
        with whole_folder(out / "adapter") as folder:
            model.save_pretrained(folder)
            (folder / "README.md").write_text(model_card(settings, facts), encoding="utf-8")
        model = model.merge_and_unload()
    model.get_output_embeddings().__dict__.pop("forward", None)
    model.config.use_cache = True
    with whole_folder(out / "merged") as folder:
        model.save_pretrained(folder)
        others = shutil.ignore_patterns(*NOT_TAKEN)
        shutil.copytree(settings.base, folder, ignore=others, dirs_exist_ok=True)
        (folder / "README.md").write_text(model_card(settings, facts), encoding="utf-8")
    write_text(out / "training.json", json.dumps(facts, indent=1))


def model_card(settings: Settings, facts: dict[str, Any]) -> str:
    about = settings.about
    library = "peft" if settings.method == "lora" else "transformers"
    head = f"---\nbase_model: {about['base']}\nlibrary_name: {library}\n---\n"
    losses = (
        f"Loss on {facts['num_dev']} held-out pairs: {facts['loss_before']:.3f}, then {facts['loss_after']:.3f}."
        if facts["dev_losses"]
        else "No pairs were held out, so no loss was measured."
    )
    purpose = {
        "inverse": "It reads a reply and writes the instruction that would have caused it; it never judges.",
        "forward": "It answers instructions; as a judge it reads the prompts that its inverse writes.",
    }[about["direction"]]
    recipe = {key: value for key, value in asdict(settings).items() if key in RECIPE}
    return (
        f"{head}# {about['model']}: {about['direction']} model ({about['mode']})\n\n{purpose}\n\n"
        f"Trained by Inverdict on {facts['num_train']} pairs from {about['base']}. {losses}\n\n"
        f"```json\n{json.dumps(recipe, indent=1)}\n```\n"
    )
