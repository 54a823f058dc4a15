"""A tokenizer's chat template, for one user message and the beginning of the reply. Knows no judgement.

Every prompt is rendered by the template itself, so that what it does to the message (trimming it, a system prompt of
its own, a switch for reasoning) is in the prompt. That takes little time beside tokenising.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cluster.errors import UserError

MARK = "\u2063INVERDICT\u2063"
# What templates that show today's date show instead, so that a run which is resumed another day, and batch and online,
# have the same prompts. Llama 3.1's template has this date where it is given none.
DATE = datetime(2024, 7, 26)
TODAY = re.compile(r"""\bstrftime_now\s*\(\s*(?P<quote>["'])(?P<format>[^"']*)(?P=quote)\s*\)""")
ANOTHER_CALL = re.compile(r"\bstrftime_now\s*[(|]")
SWITCHES = ("enable_thinking", "thinking")  # variables of templates of models that can think before they answer
SET_HERE = ("messages", "add_generation_prompt")
# The end of a generation prompt that an answer cannot follow: an open thought; harmony's header without a channel.
OPENED = re.compile(r"(?:<(?P<tag>(?:\w+:)?think)>|\[(?P<upper>THINK)\])\s*\Z")
THINK = "<think>"
HEADER, FINAL_CHANNEL = "<|start|>assistant", "<|channel|>final<|message|>"


class ChatTemplate:
    """A chat template with its variables, checked with one message.

    Attributes: `text`: the template, without today's date. `variables`: what it is rendered with. `opened`: the mark
    of a thought that the prompt ends with and the reply continues, such as `<think>`; "" if none. `is_closed`: the
    template opens a thought, and it is closed here, because the model is to answer without thinking.
    """

    def __init__(self, tokenizer: Any, name: str, given: Mapping[str, Any], *, thinks: bool) -> None:
        """Check the template.

        Args:
            tokenizer: with a chat template.
            name: of the model, for errors.
            given: variables of the template, such as `enable_thinking`.
            thinks: whether the model thinks before it answers.

        Raises:
            UserError: the template cannot be used for one user message, or does not read a variable.
        """
        self._tokenizer = tokenizer
        self._end, self.opened, self.is_closed = "", "", False
        self.variables: dict[str, Any] = {}
        try:
            written = tokenizer.get_chat_template()
            self.text: str = TODAY.sub(lambda call: _date(call["format"], given), written)
            self._check(name, given, has_date=self.text != written)
            self.variables = {one: thinks for one in SWITCHES if _reads(self.text, one)} | dict(given)
            parts = self.render(MARK).split(MARK)
        except UserError:
            raise
        except Exception as error:  # a template is a program of its own, with errors of its own
            raise _unusable(name, f"fails for one user message ({' '.join(str(error).split())[:200]})") from error
        if len(parts) != 2:
            shows = f"shows the user's message {len(parts) - 1} times" if parts[1:] else "omits the user's message"
            raise _unusable(name, shows)
        if ANOTHER_CALL.search(self.text):
            raise _unusable(name, "computes with today's date")
        self._begin_reply(parts[1], thinks)

    def _check(self, name: str, given: Mapping[str, Any], *, has_date: bool) -> None:
        for one in given:
            if one in SET_HERE or not (_reads(self.text, one) or (one == "date_string" and has_date)):
                raise UserError(
                    f"chat_template_kwargs: the chat template of {name} has no variable {one!r} to be set. Remove it.",
                    code="unknown_key",
                )

    def _begin_reply(self, generation_prompt: str, thinks: bool) -> None:
        """Complete the generation prompt, so that the answer, or the thinking, can follow it."""
        if found := OPENED.search(generation_prompt):
            self.is_closed = not thinks
            self.opened = found.group().strip() if thinks else ""
            mark = f"</{found['tag']}>" if found["tag"] else f"[/{found['upper']}]"
            self._end = f"\n\n{mark}\n\n" if self.is_closed else ""
        elif thinks and THINK in self._tokenizer.get_added_vocab():
            # What the model would begin with, in most replies: so it does in all, and the end of the thought is sure.
            self.opened, self._end = THINK, f"{THINK}\n"
        elif generation_prompt.endswith(HEADER) and not thinks:
            self._end = FINAL_CHANNEL

    def render(self, message: str) -> str:
        """The prompt for one message of the user, up to the beginning of the reply."""
        text: str = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": message}],
            chat_template=self.text,
            tokenize=False,
            add_generation_prompt=True,
            **self.variables,
        )
        return f"{text.rstrip() if self.is_closed else text}{self._end}"


def _date(form: str, given: Mapping[str, Any]) -> str:
    """A string of Jinja: the given date as it is, or the fixed one in the template's form."""
    return json.dumps(str(given["date_string"]) if "date_string" in given else DATE.strftime(form))


def _reads(template: str, variable: str) -> bool:
    return bool(re.search(rf"\b{re.escape(variable)}\b", template))


def _unusable(name: str, why: str) -> UserError:
    return UserError(
        f"The chat template of {name} {why}, so it cannot be used. Set prompt_style to completion.", code="unsupported"
    )
