"""Prompts -> token ids, and labels -> their single token ids, with the model's tokenizer."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Literal, NamedTuple

from cluster import models
from cluster.errors import UserError
from cluster.model_specs import HttpSpec, ModelSpec, VllmSpec

MAX_CHARS_PER_TOKEN = 24  # upper bound of the average for natural text; skips tokenising hopeless prompts


class LabelTokens(NamedTuple):
    """`prefix`: the reply prefix as the prompt must contain it; `ids`: for each label the token that follows it."""

    prefix: str
    ids: tuple[int, ...]


class Encoder:
    """One model's tokenizer and prompt format.

    `style`: "chat" renders the prompt as the user's turn of the tokenizer's chat template, with a generation prompt;
    "completion" uses it as plain text; "auto" is chat if there is a chat template.
    """

    def __init__(self, folder: str, style: Literal["auto", "chat", "completion"], revision: str | None = None) -> None:
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, revision=revision)
        has_template = bool(self.tokenizer.chat_template)
        if style == "chat" and not has_template:
            raise UserError(f"{folder} has no chat template. Set prompt_style to completion.", code="unsupported")
        self.is_chat = has_template if style == "auto" else style == "chat"
        self._chat_frame = self._frame() if self.is_chat else ("", "")

    def _frame(self) -> tuple[str, str]:
        """What the chat template puts before and after the user's message; the same for all prompts."""
        mark = "\u2063INVERDICT\u2063"
        whole = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True
        )
        before, after = whole.split(mark)
        return before, after

    def prompt_ids(self, prompt: str, reply_prefix: str, max_len: int) -> list[int] | None:
        """Token ids of the whole prompt, or None if it is longer than `max_len`.

        Args:
            prompt: the user's message.
            reply_prefix: the beginning of the reply.
            max_len: in tokens, with the chat template and the reply prefix.
        """
        if len(prompt) > max_len * MAX_CHARS_PER_TOKEN:
            return None
        if self.is_chat:
            before, after = self._chat_frame
            text = f"{before}{prompt}{after}{reply_prefix}"
        else:
            text = f"{prompt}\n{reply_prefix}"
        # A chat template adds its own special tokens; a completion needs those of the tokenizer (Gemma's <bos>).
        ids: list[int] = self.tokenizer(text, add_special_tokens=not self.is_chat).input_ids
        return ids if len(ids) <= max_len else None

    def prompt_ids_cut(self, prompt: str, reply_prefix: str, max_len: int) -> list[int] | None:
        """Like `prompt_ids`, but a prompt that is too long is truncated on the left; None if nothing would be left.

        The text is truncated, not the ids, so that the rest has the same ids as at generation.

        Args:
            prompt: the user's message.
            reply_prefix: the beginning of the reply.
            max_len: in tokens, with the chat template and the reply prefix.
        """
        text = prompt[-max_len * MAX_CHARS_PER_TOKEN :]
        offsets = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping
        dropped = 0
        while dropped < len(offsets):
            ids = self.prompt_ids(text[offsets[dropped][0] :] if dropped else text, reply_prefix, sys.maxsize)
            assert ids is not None
            if len(ids) <= max_len:
                return ids
            dropped += len(ids) - max_len
        return None

    def completion_ids(self, text: str) -> list[int]:
        """Token ids of a whole reply with the end of the turn: the training target after a prompt."""
        return [*self._plain(text), self.tokenizer.eos_token_id]

    def label_tokens(self, reply_prefix: str, labels: Sequence[str]) -> LabelTokens:
        """The single token of each label after the prefix.

        In some vocabularies " 4" is one token, in others a space and a digit; the prefix keeps or loses its trailing
        space accordingly. Raises UserError if the labels are not single, distinct tokens.
        """
        for prefix, space in ((reply_prefix.rstrip(), " "), (reply_prefix, "")):
            if space and prefix == reply_prefix:
                continue
            base = self._plain(f"x\n{prefix}")
            spelled = [self._plain(f"x\n{prefix}{space}{label}") for label in labels]
            if all(len(ids) == len(base) + 1 and ids[:-1] == base for ids in spelled):
                found = tuple(ids[-1] for ids in spelled)
                if len(set(found)) == len(found):
                    return LabelTokens(prefix, found)
        raise UserError(
            f"The labels {labels[0]} to {labels[-1]} are not single tokens for this model. Set score_mode to parsed.",
            code="unsupported",
        )

    def spelled_prefix(self, reply_prefix: str, labels: Sequence[str]) -> str:
        """The prefix as the prompt must contain it for these labels; where they are not single tokens, stripped."""
        try:
            return self.label_tokens(reply_prefix, labels).prefix if labels else reply_prefix.rstrip()
        except UserError:
            return reply_prefix.rstrip()

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def special_tokens(self) -> tuple[str, ...]:
        """The tokenizer's special tokens, which an evaluated text must not contain."""
        added = {str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special}
        return tuple(sorted({token for token in {*added, *self.tokenizer.all_special_tokens} if len(token) > 1}))


@cache
def encoder(folder: str, style: Literal["auto", "chat", "completion"], revision: str | None = None) -> Encoder:
    """The encoder of a model folder, loaded once per process.

    Args:
        folder: the model folder, its reference, or a hub id.
        style: see `Encoder`.
        revision: of a hub id.
    """
    return Encoder(models.local_folder(folder, weights=False), style, revision)


def encoder_of(spec: VllmSpec) -> Encoder:
    """The encoder of a model of the configuration."""
    return encoder(models.resolve(spec.source, revision=spec.revision, weights=False).reference, spec.prompt_style)


def special_tokens_of(spec: ModelSpec) -> tuple[str, ...]:
    """The special tokens that an evaluated text must not contain; empty for a model whose tokenizer is not local."""
    return encoder_of(spec).special_tokens() if isinstance(spec, VllmSpec) else ()


def labels_problem(spec: ModelSpec, reply_prefix: str, labels: Sequence[str]) -> str | None:
    """Why the labels' log-probabilities cannot be requested from the model, or None.

    Args:
        spec: the model.
        reply_prefix: what precedes the label in the reply.
        labels: of the scale.
    """
    if isinstance(spec, HttpSpec) and any(len(label) > 1 for label in labels):
        # An endpoint returns single tokens: of "10" or "-1" it would be the "1" that is found.
        return "over HTTP this scale requires score_mode: parsed"
    if isinstance(spec, VllmSpec):
        try:
            encoder_of(spec).label_tokens(reply_prefix, labels)
        except UserError as error:
            return str(error)
    return None
