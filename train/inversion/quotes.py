"""Where a prompt quotes the texts of an example: exactly, normalised, or in a span that is mostly their words.

Input: the prompt and the example's texts. Output: spans of the prompt, each with the field whose slot replaces it or
None for a further quote. Knows no fields of a task, no template and no model.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

from rapidfuzz.distance import LCSseq

from judging.template_checks import Word, shared_ngram, word_spans, words

How = Literal["exact", "normalised", "fuzzy", "appended"]

SHORT_WORDS = 3  # a text as short as this ("English", "Yes.") is searched for as a whole only
MIN_MATCHED = 6  # one more than the longest run of words that may stay; below it the rule for leftovers is enough
MIN_TELLING = 3  # words that identify the text: "is it one of the" and "do you think that" match any text
MISS = 1.5  # against 1 for a match: a span with a positive sum has more than 60 % of its words matched
MAX_GAP = 8  # unmatched words in a row; a longer gap is the instruction between two quotes, not a paraphrase
EDGE_WORDS, EDGE_CHARS = 2, 80  # new words that a span's first and last sentence may add to it

# Words that do not identify a text: function words, and words of rating instructions.
_FUNCTION = """a about after again all also always am an and another any are as at back be because been before being
best better both but by ca can could d did do does each either else even ever every few first for from get go good
great had has have he her here him his how however i if in into is it its just know last less let like ll m made make
many may me more most much must my need never next no not now nt of off ok on once one only or other our out over own
please re really s same say see she should since so some still such take than that the their them then there these they
thing think this those through to too two under up us use ve very want was way we well were what when where which while
who why will with would yes yet you your"""
_ASKING = """ai answer article ask aspect assess assistant bad based candidate clear coherence coherent consider
consistency consistent context conversation correct criteria criterion dialogue evaluate evaluation example excellent
explain fair false fluency following format give given high human input instruction instructions json judge low news
note number output paragraph poor prompt provide quality question rate rating read reason reference relevance relevant
reply response responses return score scores sentence source speaker step story summarise summarize summary system task
text title translation true user word words write writing"""
FUNCTION, ASKING = frozenset(words(_FUNCTION)), frozenset(words(_ASKING))

ESCAPE = re.compile(r"\\[nrt\"/\\]")  # in JSON, "\n" is white space, not an n
STOPS = re.compile(r"\s*[.!?…]+")
OPENED, CLOSED = re.compile(r"(?:\A|[\n:\"“„«‘'`(\[{<>*_=]) *\Z"), re.compile(r" *(?:\Z|[\n\"”»’'`)\]}<*_.,;!?])")
_END = r"\n\"“”.!?:;<>{}()\[\]|"
EDGE_BEFORE, EDGE_AFTER = re.compile(rf"(?<=[{_END}])[^\S\n]*([^{_END}]*)\Z"), re.compile(rf"[^{_END}]*[.!?]?")
LABEL_END = re.compile(r"[\"'’*_]*\s*[:>]")


class Text(NamedTuple):
    """A text to search for. `joined`: its words between single blanks, so that a run of words is a substring."""

    name: str
    text: str
    words: list[Word]
    joined: str

    @classmethod
    def of(cls, name: str, text: str) -> Text:
        known = word_spans(ESCAPE.sub("  ", text))
        return cls(name, text, known, f" {' '.join(word.text for word in known)} ")


class Quote(NamedTuple):
    """Characters `start` to `end` of the prompt, with `num_matched` words of a text in them."""

    start: int
    end: int
    how: How
    num_matched: int


class Search:
    """The prompt, its words, and its claimed spans: by (start, end) the field whose slot replaces it, None: no slot."""

    def __init__(self, prompt: str, texts: Sequence[Text], asking: frozenset[str]) -> None:
        self.prompt, self.texts = prompt, sorted(texts, key=lambda text: -len(text.text))
        self.asking, self.plain = asking, asking | FUNCTION
        self.claims: dict[tuple[int, int], str | None] = {}
        self.taken = bytearray(len(prompt))
        _, _, self.words, self.joined = Text.of("", prompt)
        self.blanks = list(accumulate((len(word.text) + 1 for word in self.words), initial=0))

    def claim_slots(self, names: Collection[str]) -> dict[str, How]:
        """Claim a slot for each text: whole quotes first, the longest text first, then spans; how each was found."""
        how: dict[str, How] = {}
        rest = []
        for text in (text for text in self.texts if text.name in names):
            if quotes := self._whole_quotes(text):
                how[text.name] = self._claim(quotes[0], text.name)
            else:
                rest.append(text)
        while options := [(quote, text) for text in rest for quote in self._spans(text)]:
            # Where two texts match a span equally well, the shorter one is the less likely coincidence.
            quote, text = max(options, key=lambda option: (option[0].num_matched, -len(option[1].words)))
            how[text.name] = self._claim(quote, text.name)
            rest.remove(text)
        return how

    def claim_further(self) -> None:
        """Claim every other quote."""
        for text in self.texts:
            quotes = self._whole_quotes(text, further=True) or self._spans(text)
            while quotes:
                for quote in quotes:
                    if self._is_free(quote.start, quote.end):  # two quotes can share their edges
                        self._claim(quote, None)
                quotes = self._spans(text)

    def _claim(self, quote: Quote, name: str | None) -> How:
        self.claims[quote.start, quote.end] = name
        self.taken[quote.start : quote.end] = b"\1" * (quote.end - quote.start)
        return quote.how

    def _is_free(self, start: int, end: int) -> bool:
        return 1 not in self.taken[start:end]

    def _whole_quotes(self, text: Text, *, further: bool = False) -> list[Quote]:
        """Quotes of the whole `text`. A short text must stand alone or, the first time, identify the example."""
        quotes = [quote for quote in self._runs(text) if self._is_free(quote.start, quote.end)]
        if len(text.words) > SHORT_WORDS:
            return quotes
        telling = any(len(word.text) > 2 and word.text not in self.plain for word in text.words)
        alone = [
            quote
            for quote in quotes
            if OPENED.search(self.prompt, max(0, quote.start - 9), quote.start) and CLOSED.match(self.prompt, quote.end)
        ]
        return alone or (quotes[:1] if telling and not further else [])

    def _runs(self, text: Text) -> Iterator[Quote]:
        if not text.words:
            found = re.finditer(re.escape(text.text), self.prompt)
            yield from (Quote(*match.span(), "exact", 0) for match in found)
            return
        at, size = 0, len(text.words)
        while (at := self.joined.find(text.joined, at)) >= 0:
            first = bisect_left(self.blanks, at)
            if not self._is_embedded(first, first + size, text):
                yield self._quote(text, self.words[first].start, self.words[first + size - 1].end)
            at = self.blanks[first + size]

    def _is_embedded(self, first: int, last: int, text: Text) -> bool:
        """Whether these words are part of a quote of a longer text: the next two words on one side match it too."""
        sides = [(first - 2, last)] * (first >= 2) + [(first, last + 2)] * (last + 2 <= len(self.words))
        runs = [self.joined[self.blanks[start] : self.blanks[end] + 1] for start, end in sides]
        longer = [other.joined for other in self.texts if len(other.joined) > len(text.joined)]
        return any(run in other for run in runs for other in longer)

    def _quote(self, text: Text, start: int, end: int) -> Quote:
        begin = start - text.words[0].start
        if self.prompt.startswith(text.text, begin):
            return Quote(begin, begin + len(text.text), "exact", len(text.words))
        stops = STOPS.match(self.prompt, end) if STOPS.fullmatch(text.text[-1]) else None
        return Quote(start, stops.end() if stops else end, "normalised", len(text.words))

    def _spans(self, text: Text) -> list[Quote]:
        """Disjoint spans that consist mostly of words of `text` in the same order."""
        free = [word.text if self._is_free(word.start, word.end) else "" for word in self.words]
        hits = [False] * len(free)
        for block in LCSseq.opcodes(free, [word.text for word in text.words]).as_matching_blocks():
            hits[block.a : block.a + block.size] = [True] * block.size
        quotes = []
        for begin, stop in self._stretches(hits):
            first, last = (begin + end for end in _best_run(hits[begin:stop]))
            matched = [word.text for word, hit in zip(self.words[first:last], hits[first:last], strict=True) if hit]
            if len(matched) < MIN_MATCHED:
                continue
            start, end = self.words[first].start, self.words[last - 1].end
            telling = {word for word in matched if len(word) > 1} - self.plain
            if len(telling) >= MIN_TELLING or shared_ngram(self.prompt[start:end], text.text):
                quotes.append(Quote(*self._with_edges(start, end, text), "fuzzy", len(matched)))
        return quotes

    def _stretches(self, hits: Sequence[bool]) -> Iterator[tuple[int, int]]:
        """Split the words at claimed spans, at too many unmatched words in a row, and at labels ("Summary:")."""
        begin = gap = 0
        for place, (word, hit) in enumerate(zip(self.words, hits, strict=True)):
            gap = 0 if hit else gap + 1
            is_label = not hit and word.text in self.plain and LABEL_END.match(self.prompt, word.end)
            if is_label or gap > MAX_GAP or not self._is_free(self.words[max(place - 1, 0)].start, word.end):
                yield begin, place
                begin = place
        yield begin, len(self.words)

    def _with_edges(self, start: int, end: int, text: Text) -> tuple[int, int]:
        """The span, extended to its whole first and last sentence, line or quote where these belong to the quote."""
        own = {word.text for word in text.words}
        before = EDGE_BEFORE.search(self.prompt, max(0, start - EDGE_CHARS), start)
        after = EDGE_AFTER.match(self.prompt, end, end + EDGE_CHARS)
        edges = ([(before.start(1), start)] if before else []) + ([(end, after.end())] if after else [])
        for first, last in edges:
            said = set(words(self.prompt[first:last]))
            if len(said - own) <= EDGE_WORDS and not said & self.asking and self._is_free(first, last):
                start, end = min(start, first), max(end, last)
        return start, end


def _best_run(hits: Sequence[bool]) -> tuple[int, int]:
    """The run with the highest sum of 1 for a hit and -MISS for a miss (Kadane); (0, 0) without a hit."""
    best = score = 0.0
    first, run = 0, (0, 0)
    for place, hit in enumerate(hits):
        if score <= 0:
            score, first = 0.0, place
        score += 1 if hit else -MISS
        if score > best:
            best, run = score, (first, place + 1)
    return run
