"""The training loop of `sft` on each worker: model, LoRA, Hugging Face's Trainer, resume; rank 0 writes the model.

Input: `Settings` with the folder of token ids. Output: see export.py. Knows no instructions and no configuration.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray.train
import torch
from transformers import AutoConfig, AutoModelForCausalLM, TrainingArguments, set_seed
from transformers.utils import is_flash_attn_2_available

from cluster.models import local_folder
from cluster.training import on_gpu
from train.finetuning.callbacks import Watch
from train.finetuning.export import save
from train.finetuning.loss import CompletionLoss, CompletionTrainer
from train.finetuning.parallel import allow_fsdp_on_cpus, keep_precision, parallel_arguments, whole_model
from train.finetuning.rows import LengthGrouped, Rows, layers_across_rows, padded, padding_free
from train.finetuning.throughput import weights_of
from train.finetuning.worker_args import Settings


def finetune(raw: dict[str, Any]) -> None:
    """The loop of cluster.training: trains on this worker, resumes from the last reported checkpoint."""
    settings = Settings(**{**raw, "base": local_folder(raw["base"])})
    gpu = on_gpu()
    if settings.padding_free:
        check_padding_free(settings.base, has_kernels=gpu and is_flash_attn_2_available())
    if not gpu:
        torch.set_num_threads(settings.num_threads)
    set_seed(settings.seed)
    model = load_model(settings, gpu)
    weights = weights_of(model)
    rows, dev = Rows(settings.pairs, "train"), Rows(settings.pairs, "dev")
    loss = CompletionLoss(model.get_base_model() if settings.method == "lora" else model)
    with tempfile.TemporaryDirectory() as scratch, _last_checkpoint() as checkpoint:
        args = arguments(settings, model, scratch, gpu=gpu, num_rows=len(rows))
        allow_fsdp_on_cpus(args)
        trainer = CompletionTrainer(
            model=model,
            args=args,
            train_dataset=rows,
            data_collator=padding_free if settings.padding_free else padded,
        )
        keep_precision(trainer)
        trainer.completion = loss
        trainer.order = LengthGrouped(rows.lengths, settings.per_device_batch, settings.seed)
        # With these flags the Trainer counts loss tokens for `compute_loss`, whatever the model's forward accepts.
        trainer.model_accepts_loss_kwargs = trainer._loss_shifts_labels = True
        watch = Watch(settings, loss, trainer, dev, checkpoint)
        trainer.add_callback(watch)
        trainer.train(resume_from_checkpoint=checkpoint)
        watch.finish(trainer.state)
        is_first = ray.train.get_context().get_world_rank() == 0
        whole = whole_model(settings, trainer.model, lambda: load_model(settings, gpu), is_first=is_first)
        if is_first:
            save(settings, whole, watch.facts(rows, weights, trainer.state))
    # Barrier: no worker may exit before rank 0 has written its files, so that a crash here is still retried.
    ray.train.report({"done": 1})


def check_padding_free(base: str, *, has_kernels: bool) -> None:
    """Raises RuntimeError where pairs cannot be joined: without flash-attn, or with layers that mix them."""
    if not has_kernels:
        raise RuntimeError(
            "`sft.padding_free` needs a GPU and the package flash-attn on each worker. Install it, or set it to false."
        )
    if others := layers_across_rows(AutoConfig.from_pretrained(base)):
        raise RuntimeError(
            f"`sft.padding_free`: {base} has {others}, which would read from one pair into the next. Set it to false."
        )


def load_model(settings: Settings, gpu: bool) -> Any:
    """The base model ready for training: weights in bfloat16 with LoRA on GPUs, else in float32."""
    dtype = torch.bfloat16 if gpu and settings.method == "lora" else torch.float32
    # Its kernels keep the rows of a batch apart at no cost; others mask T x T scores.
    attention = "flash_attention_2" if settings.padding_free else None
    model: Any = AutoModelForCausalLM.from_pretrained(settings.base, dtype=dtype, attn_implementation=attention)
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
    if settings.method == "full":
        return model
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, lora)


def arguments(settings: Settings, model: Any, scratch: str, *, gpu: bool, num_rows: int) -> TrainingArguments:
    """The Trainer's arguments.

    Args:
        settings: of the training.
        model: to be trained.
        scratch: local folder for the Trainer's checkpoints.
        gpu: train on a GPU, in bfloat16.
        num_rows: training pairs, for the number of warm-up steps.

    Returns:
        The arguments; the worker's checkpoints are reported to Ray Train by `Watch`.
    """
    workers = ray.train.get_context().get_world_size()
    rows_a_step = settings.per_device_batch * settings.accumulation * workers
    num_steps = math.ceil(num_rows / rows_a_step) * settings.epochs
    return TrainingArguments(
        output_dir=scratch,
        seed=settings.seed,
        per_device_train_batch_size=settings.per_device_batch,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup_share * num_steps),
        logging_steps=1,
        logging_strategy="steps",
        save_strategy="steps",
        save_steps=settings.checkpoint_steps,
        save_total_limit=1,
        bf16=gpu or settings.bfloat16,
        use_cpu=not gpu,
        gradient_checkpointing=settings.gradient_checkpointing,
        remove_unused_columns=False,
        dataloader_pin_memory=gpu,
        disable_tqdm=True,
        report_to=[],
        **parallel_arguments(settings, model),
    )


@contextmanager
def _last_checkpoint() -> Iterator[str | None]:
    """The folder of the last reported checkpoint, or None."""
    found = ray.train.get_checkpoint()
    if found is None:
        yield None
        return
    with found.as_directory() as folder:
        yield folder
