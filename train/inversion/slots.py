"""A prompt that the inversion model wrote for one example -> a template text, the example's own texts made slots.

Input: the prompt, the example's texts by field name, the task's fields and the names of its aspects. Output: the text,
how each text was found (by quotes.py) and what was removed. Knows no model and no scale.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from judging.tasks import FieldSpec
from judging.template import slot_block
from judging.template_checks import (
    MIN_WORDS,
    NGRAM,
    Word,
    ngrams,
    outside_slots,
    shared_ngram,
    stated_scales,
    word_spans,
    words,
)
from train.inversion.quotes import ASKING, FUNCTION, How, Search, Text

# Until the text is finished, one private-use character stands for each slot, and one for each removed span.
FIRST_SLOT, SLOTS, GAP = 0xF0000, "\U000f0000-\U000ffffc", "\U000ffffd"
PLACEHOLDER = re.compile(f"[{SLOTS}{GAP}]")

# A sentence or a line; a slot before a capital letter also ends a sentence.
UNIT = re.compile(rf"[^\n]+?(?:[.!?]+[\"'”’)\]*_]*(?=\s)|[{SLOTS}](?=\s+[A-Z])|[。！？]+|(?=\n)|\Z)")
BEGINNING = re.compile(r"\A\Z|[.!?:\n•*=#–—-]")  # between two words: what makes a capital usual
_KEY = r"(?<![^\W_])(?:\w[\w -]{0,40}[_ -])?score\\?[\"”']?[^\S\n]*:"
SCORE_KEY = re.compile(_KEY, re.IGNORECASE)
JSON = re.compile(
    rf"\{{(?:[^{{}}]|\{{[^{{}}]*\}})*\}}"  # an object, with objects in it
    rf"|\{{[^{{}}]*?[\"“']{_KEY}[^{{}}]*?(?=\n\n|\Z)"  # one that is cut off
    rf"|^[^\S\n]*\\?[\"“']{_KEY}.*$",  # a line of one
    re.IGNORECASE | re.MULTILINE,
)
# Applied until nothing changes: text that only enclosed, named or introduced something that was removed.
_G, _NO_WORD = rf"[\s.,;:…]*{GAP}[\s.,;:…]*", rf"[^\w\n{SLOTS}{GAP}]*"
TIDY = (
    (rf"{GAP}\s*{GAP}", GAP),
    (rf"(?<![^\s:(\[])(?:\"{_G}\"|“{_G}”|'{_G}'|‘{_G}’|`+\w*{_G}`+|\*+{_G}\*+)(?!\w)", GAP),
    (rf"\({_G}\)|\[{_G}\]|\{{{_G}\}}|<([\w-]+)>{_G}</\1>", GAP),
    (rf"^{_NO_WORD}\w+[*_]*:[*_]*\s*{GAP}[^\S\n]*$", GAP),
    (rf"[^\S\n]*[:;,(\[{{\"“‘–—-]+\s*{GAP}[^\S\n]*(?:[.!?]|$)", f".{GAP}"),
    (rf"(?<=[.!?])[^\S\n]*{GAP}[^\S\n]*[.,;:]+", GAP),
    (rf"^{_NO_WORD}(?:\d+[.)]{_NO_WORD})?{GAP}[^\w\n{SLOTS}]*(?:\n|\Z)", ""),
)
SPACES = (
    (rf"^[^\S\n]*{GAP}[^\S\n]*|[^\S\n]*{GAP}[^\S\n]*(?=[.,;:!?)\]]|$)", ""),
    (rf"[^\S\n]*{GAP}[^\S\n]*", " "),
    (r"\n(?:[^\S\n]*\n){2,}", "\n\n"),
)


@dataclass(frozen=True, slots=True)
class Generalised:
    """`text`: every field's slot once, and `{{reply_format}}` as its last paragraph.

    `found`: how each field's text was found. `removed`: the removed spans. `refused`: why the template is unusable;
    where it is None, `text` has no NGRAM words in a row of the example outside its slots.
    """

    text: str
    found: Mapping[str, How]
    removed: tuple[str, ...]
    refused: str | None


def generalise(
    prompt: str, content: Mapping[str, str], fields: Sequence[FieldSpec], aspects: Sequence[str]
) -> Generalised:
    """The template text that `prompt` becomes.

    Each text is replaced by its slot at its best quote: exact, equal up to case, spacing and punctuation, or a span
    that is mostly its words. Further quotes are removed. A JSON object with a score is the reply format, which
    `{{reply_format}}` states anew: it is removed, and a text quoted only there is appended like one that was not found,
    in the rubric's blocks and in the order of `fields`. A sentence that still reveals the example is removed with any
    slot in it. Double braces outside the quotes are broken up. White space around texts and prompt is ignored.

    Args:
        prompt: as sampled.
        content: the example's texts by field name.
        fields: the fields that the template shows.
        aspects: names, which are words of the instruction and never of the example.

    Returns:
        The template text, how each text was found, and why the template is unusable, if it is.
    """
    prompt = PLACEHOLDER.sub("", prompt)
    given = {name: PLACEHOLDER.sub("", content[name]).strip() for name in content}
    texts = [Text.of(name, given[name]) for name in given if given[name]]
    slots = {spec.name: chr(FIRST_SLOT + place) for place, spec in enumerate(fields)}
    said = [*aspects, *slots, *(spec.title for spec in fields)]
    asking = ASKING.union(*map(words, said)) - FUNCTION
    search = Search(prompt, texts, asking)
    how = search.claim_slots(slots)
    search.claim_further()
    removed = [prompt[start:end] for (start, end), name in sorted(search.claims.items()) if name is None]
    marked = _spliced(prompt, {span: slots[name] if name else GAP for span, name in search.claims.items()})
    for find in (_reply_forms, lambda now: _leftovers(now, texts, FUNCTION | asking)):
        while spans := find(marked):
            removed += [_shown(marked[start:end], slots) for start, end in spans]
            marked = _spliced(marked, dict.fromkeys(spans, GAP))
    marked = _tidied(marked)
    missing = [spec for spec in fields if slots[spec.name] not in marked]
    blocks = "\n".join(map(slot_block, missing))
    text = "\n\n".join(part for part in (_shown(marked, slots), blocks, "{{reply_format}}") if part)
    found: dict[str, How] = {spec.name: "appended" if spec in missing else how[spec.name] for spec in fields}
    return Generalised(text, found, tuple(removed), _refusal(marked, text, texts))


def _spliced(text: str, instead: Mapping[tuple[int, int], str]) -> str:
    """`text` with other characters in the place of each span."""
    pieces, at = [], 0
    for (start, end), put in sorted(instead.items()):
        pieces += [text[at:start], put]
        at = end
    return "".join([*pieces, text[at:]])


def _reply_forms(marked: str) -> list[tuple[int, int]]:
    return [found.span() for found in JSON.finditer(marked) if SCORE_KEY.search(found.group())]


def _leftovers(marked: str, texts: Sequence[Text], plain: frozenset[str]) -> list[tuple[int, int]]:
    """Sentences and lines with NGRAM words in a row, a name or a number of the texts."""
    told = bytearray(len(marked))
    grams = {gram for text in texts for gram in ngrams(text.text)}
    for stretch in re.finditer(rf"[^{SLOTS}]+", marked):
        run = word_spans(stretch.group())
        for gram in zip(*(run[offset:] for offset in range(NGRAM)), strict=False):
            if tuple(word.text for word in gram) in grams:
                for word in gram:
                    told[stretch.start() + word.start] = 1
    points = {str(point) for low, high in stated_scales(marked) for point in range(int(max(0, low)), int(high) + 1)}
    names = {word.text for text in texts for word in text.words if text.text.islower() or _tells(text.text, word)}
    names -= plain | points
    for before, word in pairwise([Word("", 0, 0), *word_spans(marked)]):
        begins = BEGINNING.search(marked[before.end : word.start]) or before.text.isdigit() or not before.text
        if word.text in names and _tells(marked, word) and not (begins and word.text.isalpha()):
            told[word.start] = 1
    return [unit.span() for unit in UNIT.finditer(marked) if 1 in told[unit.start() : unit.end()]]


def _tells(text: str, word: Word) -> bool:
    """Whether the word is written like a name or a number. A single character is a list item's letter or number."""
    return len(word.text) > 1 and (text[word.start].isupper() or any(map(str.isdigit, word.text)))


def _tidied(marked: str) -> str:
    before = ""
    while before != marked:
        before = marked
        for pattern, put in TIDY:
            marked = re.sub(pattern, put, marked, flags=re.MULTILINE)
    for pattern, put in SPACES:
        marked = re.sub(pattern, put, marked, flags=re.MULTILINE)
    return marked.strip()


def _shown(marked: str, slots: Mapping[str, str]) -> str:
    """Marked text as in the template: the only double braces are those of the slots."""
    text = re.sub(r"\{(?=\{)|\}(?=\})", r"\g<0> ", marked.replace(GAP, ""))
    names = {slot: name for name, slot in slots.items()}
    return PLACEHOLDER.sub(lambda found: f"{{{{{names[found.group()]}}}}}", text)


def _refusal(marked: str, text: str, texts: Sequence[Text]) -> str | None:
    num_words = len(words(PLACEHOLDER.sub(" ", marked)))
    if num_words < MIN_WORDS:
        return f"too little of the instruction is left: {num_words} words, at least {MIN_WORDS} are required"
    traces = (shared_ngram(part, known.text) for part in outside_slots(text) for known in texts)
    return f"words of the example are left: {trace!r}" if (trace := next(filter(None, traces), None)) else None
