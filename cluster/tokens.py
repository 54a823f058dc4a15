"""Prompts -> token ids, and labels -> their single token ids, with the model's tokenizer."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from cluster import models
from cluster.chat_templates import ChatTemplate
from cluster.errors import UserError
from cluster.model_specs import HttpSpec, ModelSpec, VllmSpec
from cluster.terminal import say

Style = Literal["auto", "chat", "completion"]
MAX_CHARS_PER_TOKEN = 24  # upper bound of the average for natural text; skips tokenising hopeless prompts


class LabelTokens(NamedTuple):
    """`prefix`: the reply prefix as the prompt must contain it; `ids`: for each label the token that follows it."""

    prefix: str
    ids: tuple[int, ...]


class Encoder:
    """One model's tokenizer and prompt format."""

    def __init__(
        self,
        folder: str,
        style: Style = "auto",
        revision: str | None = None,
        *,
        chat_template_kwargs: Mapping[str, Any] = MappingProxyType({}),
        thinks: bool = False,
    ) -> None:
        """Load the tokenizer and check its chat template.

        Args:
            folder: the model folder, or a hub id.
            style: "chat" renders the prompt as the user's turn of the tokenizer's chat template, with a generation
                prompt; "completion" uses it as plain text; "auto" is chat if there is a chat template.
            revision: of a hub id.
            chat_template_kwargs: variables of the chat template.
            thinks: whether the model thinks before it answers.

        Raises:
            UserError: there is no chat template, or it cannot be used.
        """
        from transformers import AutoTokenizer

        # Mistral's own format has no chat template, and transformers would choose it where both formats are there.
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, revision=revision, mistral_format=False)
        self.is_chat = bool(self.tokenizer.chat_template) if style == "auto" else style == "chat"
        self.thinks = thinks
        asked = {"prompt_style: chat": style == "chat", "chat_template_kwargs": bool(chat_template_kwargs)}
        asked["thinking_token_budget"] = thinks
        needs = [what for what, is_asked in asked.items() if is_asked]
        if needs and not (self.is_chat and self.tokenizer.chat_template):
            raise UserError(
                f"{folder} has no chat template, which {needs[0]} needs. Remove it: without a chat template prompts "
                "are plain text (prompt_style: completion).",
                code="unsupported",
            )
        self.chat = ChatTemplate(self.tokenizer, folder, chat_template_kwargs, thinks=thinks) if self.is_chat else None

    def prompt_ids(self, prompt: str, reply_prefix: str, max_len: int) -> list[int] | None:
        """Token ids of the whole prompt, or None if it is longer than `max_len`.

        Args:
            prompt: the user's message.
            reply_prefix: the beginning of the reply.
            max_len: in tokens, with the chat template and the reply prefix.
        """
        if len(prompt) > max_len * MAX_CHARS_PER_TOKEN:
            return None
        text = self.chat.render(prompt) if self.chat else f"{prompt}\n"
        # A chat template adds its own special tokens; a completion needs those of the tokenizer (Gemma's <bos>).
        ids: list[int] = self.tokenizer(f"{text}{reply_prefix}", add_special_tokens=not self.is_chat).input_ids
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
        space accordingly. Raises UserError if the labels are not single, distinct tokens, or the model thinks before
        it answers.
        """
        self._check_answers_at_once()
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
        """The prefix as the prompt must contain it for these labels; where they are not single tokens, stripped.

        Raises UserError if the model thinks before it answers.
        """
        self._check_answers_at_once()
        try:
            return self.label_tokens(reply_prefix, labels).prefix if labels else reply_prefix.rstrip()
        except UserError:
            return reply_prefix.rstrip()

    def _check_answers_at_once(self) -> None:
        if self.thinks:
            raise UserError(
                "the model thinks before it answers (thinking_token_budget), and this reads its first token. Set "
                "score_mode to parsed, or remove thinking_token_budget.",
                code="unsupported",
            )

    def _plain(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids

    def special_tokens(self) -> tuple[str, ...]:
        """What an evaluated text must not contain: special tokens, and other added tokens of the chat template."""
        template = self.chat.text if self.chat else ""
        added = {
            str(token)
            for token in self.tokenizer.added_tokens_decoder.values()
            if token.special or (str(token) in template and not str(token).isspace())
        }
        return tuple(sorted({token for token in {*added, *self.tokenizer.all_special_tokens} if len(token) > 1}))


def encoder(folder: str, spec: VllmSpec, revision: str | None = None) -> Encoder:
    """The encoder of a model folder, loaded once per process.

    Args:
        folder: the model folder, its reference, or a hub id.
        spec: the model, for its prompt format.
        revision: of a hub id.
    """
    variables = json.dumps(spec.chat_template_kwargs, sort_keys=True)
    known = _loaded(folder, spec.prompt_style, revision, variables, spec.thinks)
    if spec.thinks and not (known.chat and known.chat.opened) and "reasoning_parser" not in spec.engine:
        raise UserError(
            f"{spec.source} has no tokens for <think> and </think>, so thinking_token_budget cannot be kept. Remove "
            "it, or name vLLM's parser for the model: `engine: {reasoning_parser: NAME}`.",
            code="unsupported",
        )
    return known


@cache
def _loaded(folder: str, style: Style, revision: str | None, variables: str, thinks: bool) -> Encoder:
    return Encoder(
        models.local_folder(folder, weights=False),
        style,
        revision,
        chat_template_kwargs=json.loads(variables),
        thinks=thinks,
    )


def encoder_of(spec: VllmSpec) -> Encoder:
    """The encoder of a model of the configuration."""
    return encoder(models.resolve(spec.source, revision=spec.revision, weights=False).reference, spec)


def special_tokens_of(spec: ModelSpec) -> tuple[str, ...]:
    """The special tokens that an evaluated text must not contain; empty for a model whose tokenizer is not local."""
    if not isinstance(spec, VllmSpec):
        return ()
    known = encoder_of(spec)
    if known.chat and known.chat.is_closed:
        _say_closed(spec.source)
    return known.special_tokens()


@cache
def _say_closed(source: str) -> None:
    say(
        f"{source}: its chat template begins every reply with a thought, which is closed, so that the model answers at "
        "once. Set thinking_token_budget and score_mode: parsed to let it think."
    )


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
