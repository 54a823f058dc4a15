"""Ten families of models as tiny tokenizers: each with special tokens, splitting of digits and a chat template of its
family's public form. The templates are written for these tests, and shorter than the published ones.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

SYSTEM = "You are a helpful assistant."
TRAINED_ON = [f"Score: {number}\n" for number in range(11)] * 5 + ["Rate the text. The user asks the model.\n"] * 5
# GPT-4's splitting, with up to so many digits in a token: Llama 3 has three, Qwen one. GPT-2's joins a space as well.
GPT4 = r"""[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,%d}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""


class Family(NamedTuple):
    """`before`, `after`: what stands around the message `M`, without thinking and on the fixed date. `special`: its
    special tokens, the first one for the beginning of a text ("" if none), the second for its end. `added`: further
    added tokens. `labels`: the prefix that labels follow on the scales 1 to 5 and 1 to 10; None: several tokens.
    """

    kind: str
    template: str
    before: str
    after: str
    special: tuple[str, ...]
    labels: tuple[str | None, str | None]
    added: tuple[str, ...] = ()
    trims: bool = False
    swallows: bool = False


def _turns(turn: str, start: str) -> str:
    """A template that writes each message as `turn`, and `start` in front of a reply."""
    loop = "{%- for message in messages %}" + turn + "{%- endfor %}"
    return loop + "{%- if add_generation_prompt %}" + start + "{%- endif %}"


CHATML = "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
CHATML_SYSTEM = (
    "{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\n" + SYSTEM + "<|im_end|>\\n' }}{%- endif %}"
)
LLAMA_HEAD = (
    "{{- bos_token }}{%- if date_string is not defined %}"
    "{%- if strftime_now is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
    "{%- else %}{%- set date_string = '26 Jul 2024' %}{%- endif %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date_string + '\\n\\n<|eot_id|>' }}"
)
SMOLLM_HEAD = (
    "{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}"
    '{%- set today = strftime_now("%d %B %Y") %}'
    "{{- '<|im_start|>system\\nToday Date: ' + today + '\\nReasoning Mode: ' }}"
    "{{- '/think' if enable_thinking else '/no_think' }}{{- '<|im_end|>\\n' }}"
)
SMOLLM_TURN = (
    "{%- if message.role == 'assistant' %}{% generation %}" + CHATML + "{% endgeneration %}{%- else %}" + CHATML
) + "{%- endif %}"
GEMMA_TURN = (
    "{%- set role = 'model' if message.role == 'assistant' else message.role %}"
    "{{- '<start_of_turn>' + role + '\\n' + message.content | trim + '<end_of_turn>\\n' }}"
)
NO_SYSTEM = "{%- if messages[0].role == 'system' %}{{- raise_exception('System role not supported') }}{%- endif %}"
GEMMA3_TURN = (
    "{%- set role = 'model' if message.role == 'assistant' else message.role %}{{- '<start_of_turn>' + role + '\\n' }}"
    "{%- if message.content is string %}{{- message.content | trim }}"
    "{%- else %}{%- for item in message.content %}{{- item.text | trim }}{%- endfor %}{%- endif %}"
    "{{- '<end_of_turn>\\n' }}"
)
OLMO_TURN = "{{- '<|' + message.role + '|>\\n' + message.content + '\\n' }}"
MISTRAL_TURN = "{%- if message.role == 'user' %}{{- '[INST] ' + message.content + '[/INST]' }}{%- endif %}"
R1_TURN = "{%- if message.role == 'user' %}{{- '<｜User｜>' + message.content }}{%- endif %}"

FAMILIES = {
    "llama-3": Family(
        "gpt4-3",
        LLAMA_HEAD
        + _turns(
            "{{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim }}"
            "{{- '<|eot_id|>' }}",
            "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}",
        ),
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_0|>"),
        ("Score: ", "Score: "),
        trims=True,
    ),
    "qwen-2.5": Family(
        "gpt4-1",
        CHATML_SYSTEM + _turns(CHATML, "{{- '<|im_start|>assistant\\n' }}"),
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
        ("", "<|im_end|>", "<|im_start|>", "<|endoftext|>"),
        ("Score: ", None),
        ("<tool_call>", "</tool_call>"),
    ),
    "qwen-3": Family(
        "gpt4-1",
        _turns(
            CHATML,
            "{{- '<|im_start|>assistant\\n' }}{%- if enable_thinking is defined and enable_thinking is false %}"
            "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}",
        ),
        "<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        ("", "<|im_end|>", "<|im_start|>", "<|endoftext|>"),
        ("Score: ", None),
        ("<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
    "gemma-2": Family(
        "gemma",
        "{{- bos_token }}" + NO_SYSTEM + _turns(GEMMA_TURN, "{{- '<start_of_turn>model\\n' }}"),
        "<bos><start_of_turn>user\n",
        "<end_of_turn>\n<start_of_turn>model\n",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<pad>"),
        ("Score: ", None),
        ("\n\n", "<table>", "<unused7>"),
        trims=True,
    ),
    "gemma-3": Family(
        "gemma",
        "{{- bos_token }}" + _turns(GEMMA3_TURN, "{{- '<start_of_turn>model\\n' }}"),
        "<bos><start_of_turn>user\n",
        "<end_of_turn>\n<start_of_turn>model\n",
        ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"),
        ("Score: ", None),
        ("\n\n", "<table>"),
        trims=True,
    ),
    "mistral": Family(
        "metaspace",
        "{{- bos_token }}" + _turns(MISTRAL_TURN, ""),
        "<s>[INST] ",
        "[/INST]",
        ("<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"),
        ("Score: ", None),
    ),
    "phi-3": Family(
        "metaspace",
        _turns("{{- '<|' + message.role + '|>\\n' + message.content + '<|end|>\\n' }}", "{{- '<|assistant|>\\n' }}"),
        "<|user|>\n",
        "<|end|>\n<|assistant|>\n",
        ("", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"),
        ("Score: ", None),
        swallows=True,
    ),
    "olmo": Family(
        "gpt2",
        "{{- eos_token }}" + _turns(OLMO_TURN, "{{- '<|assistant|>\\n' }}"),
        "<|endoftext|><|user|>\n",
        "\n<|assistant|>\n",
        ("", "<|endoftext|>", "<|padding|>"),
        ("Score:", "Score:"),
    ),
    "smollm-3": Family(
        "digits",
        SMOLLM_HEAD
        + _turns(
            SMOLLM_TURN,
            "{{- '<|im_start|>assistant\\n' }}"
            "{%- if not enable_thinking %}{{- '<think>\\n\\n</think>\\n' }}{%- endif %}",
        ),
        "<|im_start|>system\nToday Date: 26 July 2024\nReasoning Mode: /no_think<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n",
        ("", "<|im_end|>", "<|im_start|>", "<|end_of_text|>"),
        ("Score: ", None),
        ("<think>", "</think>"),
    ),
    "deepseek-r1-distill": Family(
        "gpt4-1",
        "{{- bos_token }}" + _turns(R1_TURN, "{{- '<｜Assistant｜><think>\\n' }}"),
        "<｜begin▁of▁sentence｜><｜User｜>",
        "<｜Assistant｜><think>\n\n</think>\n\n",
        ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        ("Score: ", None),
        ("<think>", "</think>"),
    ),
}


def save(family: Family, folder: Path) -> str:
    """The tokenizer of a family in a folder."""
    made = Tokenizer(models.BPE())
    is_bytes = family.kind not in ("gemma", "metaspace")
    if is_bytes:
        first: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if family.kind == "digits" else []
        if family.kind.startswith("gpt4"):
            first = [pre_tokenizers.Split(Regex(GPT4 % int(family.kind[-1])), "isolated")]
        last = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not family.kind.startswith("gpt4"))
        made.pre_tokenizer = pre_tokenizers.Sequence([*first, last])
        made.decoder = decoders.ByteLevel()
    else:
        spaces: Any = pre_tokenizers.Metaspace(prepend_scheme="first")
        if family.kind == "gemma":
            made.normalizer = normalizers.Replace(" ", "▁")
            spaces = pre_tokenizers.Split("▁", "merged_with_next")
        digits = pre_tokenizers.Split(Regex("[0-9]"), "isolated")
        made.pre_tokenizer = pre_tokenizers.Sequence([spaces, digits])
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    trainer = BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if is_bytes else [], show_progress=False
    )
    made.train_from_iterator(TRAINED_ON, trainer)
    if not is_bytes:
        known = json.loads(made.to_str())["model"]
        pieces = [*known["vocab"], *(f"<0x{byte:02X}>" for byte in range(256))]
        numbers = {piece: number for number, piece in enumerate(pieces)}
        made.model = models.BPE(numbers, [tuple(pair) for pair in known["merges"]], byte_fallback=True)
    made.add_special_tokens(
        [AddedToken(one, normalized=False, rstrip=family.swallows) for one in family.special if one]
    )
    made.add_tokens([AddedToken(one, normalized=False) for one in family.added])
    bos = {"bos_token": family.special[0]} if family.special[0] else {}
    whole = PreTrainedTokenizerFast(tokenizer_object=made, eos_token=family.special[1], **bos)
    whole.chat_template = family.template
    whole.save_pretrained(folder)
    return str(folder)
