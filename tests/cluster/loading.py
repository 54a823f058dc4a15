"""Load a configuration from a text, for the tests of what is accepted and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from cluster import config
from cluster.config import RunConfig
from cluster.errors import UserError
from cluster.jobs import sections

SECTIONS: dict[str, type[BaseModel]] = sections()


def load(file: Path, text: str, *overrides: str, sections: dict[str, type[BaseModel]] = SECTIONS) -> RunConfig:
    file.write_text(text)
    return config.load(file, overrides, sections)


def refusal(file: Path, text: str, *overrides: str) -> UserError:
    """The error of a load that must fail; it is one line that names the file or the override."""
    with pytest.raises(UserError) as caught:
        load(file, text, *overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert str(file) in message or any(f"--set {override}" in message for override in overrides)
    return caught.value
