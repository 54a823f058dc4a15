"""Escape control characters for the terminal: names and texts in a user's files may contain escape sequences."""

from __future__ import annotations

import sys

# Control characters except newline and tab, and those that change the writing direction.
OBEYED = (*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in OBEYED if chr(code) not in "\n\t"}


def shown(text: str) -> str:
    r"""`text` with such characters escaped: ESC as `\x1b`."""
    return text.translate(SHOWN)


def say(message: str) -> None:
    """Print a line of progress on stderr."""
    print(shown(message), file=sys.stderr, flush=True)
