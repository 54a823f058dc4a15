"""Prompts and labels as token ids, on tokenizers made on the spot and on the embedded models'."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
from tokenizers import models as tokenizer_models
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from cluster import models
from cluster.model_specs import VllmSpec
from cluster.tokens import MAX_CHARS_PER_TOKEN, Encoder, LabelTokens, encoder
from tests.refusals import refused

PREFIX = "Score: "
LABELS = ("1", "2", "3", "4", "5")
CHAT = (
    "{{ bos_token }}{% for message in messages %}<|user|>{{ message.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<bos>", "<eos>", "<|user|>", "<|end|>", "<|assistant|>"]


def make(folder: Path, *, digits_apart: bool, chat: bool = False) -> str:
    """A byte-level BPE model folder; `digits_apart`: every digit stands alone, else " 4" is one token."""
    tokenizer = Tokenizer(tokenizer_models.BPE())
    split = [pre_tokenizers.Digits(individual_digits=True)] if digits_apart else []
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=500,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"{PREFIX}{label}\n" for label in range(10)] * 5 + ["Rate the text. "] * 5, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 0)])
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", additional_special_tokens=SPECIAL[2:]
    )
    if chat:
        whole.chat_template = CHAT
    whole.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp("joined"), digits_apart=False)


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp("apart"), digits_apart=True)


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make(tmp_path_factory.mktemp("chat"), digits_apart=False, chat=True)


def test_a_vocabulary_with_space_and_digit_in_one_token(joined: str) -> None:
    known = Encoder(joined, "auto")
    prefix, ids = known.label_tokens(PREFIX, LABELS)
    assert prefix == "Score:"
    assert [known.tokenizer.decode([token]) for token in ids] == [" 1", " 2", " 3", " 4", " 5"]


def test_a_vocabulary_with_the_space_on_its_own(apart: str) -> None:
    known = Encoder(apart, "auto")
    prefix, ids = known.label_tokens(PREFIX, LABELS)
    assert prefix == "Score: "
    assert [known.tokenizer.decode([token]) for token in ids] == list(LABELS)


def test_a_prefix_without_a_space_at_its_end_is_taken_as_it_is(apart: str) -> None:
    known = Encoder(apart, "auto")
    assert known.label_tokens("Score:", LABELS) == LabelTokens("Score:", known.label_tokens(PREFIX, LABELS).ids)


@pytest.mark.parametrize("labels", [("0", "5", "10"), ("-1", "0", "1")])
def test_labels_of_several_tokens_are_refused(apart: str, labels: tuple[str, ...]) -> None:
    with refused("unsupported", naming=f"{labels[0]} to {labels[-1]}"):
        Encoder(apart, "auto").label_tokens(PREFIX, labels)


def test_labels_that_are_one_unknown_token_are_refused(tmp_path: Path) -> None:
    words = {"<unk>": 0, "x": 1, "Score:": 2, "1": 3, "2": 4}
    tokenizer = Tokenizer(tokenizer_models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(tmp_path)
    known = Encoder(str(tmp_path), "completion")
    assert known.label_tokens(PREFIX, ("1", "2")).ids == (3, 4)
    # 3 and 4 are no words of this vocabulary: both would be read as the same one token.
    with refused("unsupported", naming="1 to 4"):
        known.label_tokens(PREFIX, ("1", "2", "3", "4"))


@pytest.mark.parametrize("digits_apart", [False, True])
def test_the_label_follows_the_prompt_as_that_very_token(joined: str, apart: str, digits_apart: bool) -> None:
    known = Encoder(apart if digits_apart else joined, "completion")
    prefix, ids = known.label_tokens(PREFIX, LABELS)
    prompt = known.prompt_ids("Rate the text.", prefix, 100)
    assert prompt is not None
    for label, token in zip(LABELS, ids, strict=True):
        assert known.prompt_ids("Rate the text.", f"{PREFIX}{label}", 100) == [*prompt, token]


def test_a_completion_begins_with_the_tokenizers_own_first_token(joined: str) -> None:
    known = Encoder(joined, "completion")
    ids = known.prompt_ids("Rate the text.", PREFIX, 100)
    assert ids is not None
    assert ids[0] == 0
    assert known.tokenizer.decode(ids) == "<bos>Rate the text.\nScore: "


@pytest.mark.parametrize("style", ["auto", "chat"])
def test_a_chat_frames_the_prompt_and_opens_the_reply(chat: str, style: str) -> None:
    known = Encoder(chat, style)  # type: ignore[arg-type]
    assert known.is_chat
    ids = known.prompt_ids("Rate {{ this }}.", "Score:", 100)
    assert ids is not None
    # The template's <bos> alone, not a second one of the tokenizer's.
    assert known.tokenizer.decode(ids) == "<bos><|user|>Rate {{ this }}.<|end|><|assistant|>Score:"
    assert ids.count(0) == 1


def test_the_style_may_be_completion_where_there_is_a_chat_template(chat: str) -> None:
    known = Encoder(chat, "completion")
    assert not known.is_chat
    assert known.tokenizer.decode(known.prompt_ids("Rate.", PREFIX, 100) or []) == "<bos>Rate.\nScore: "


def test_a_chat_without_a_template_is_refused(joined: str) -> None:
    assert not Encoder(joined, "auto").is_chat
    with refused("unsupported", naming="prompt_style"):
        Encoder(joined, "chat")


def test_a_prompt_of_exactly_the_room_fits_and_one_more_does_not(joined: str) -> None:
    known = Encoder(joined, "completion")
    ids = known.prompt_ids("Rate the text. " * 10, PREFIX, 10_000)
    assert ids is not None
    assert known.prompt_ids("Rate the text. " * 10, PREFIX, len(ids)) == ids
    assert known.prompt_ids("Rate the text. " * 10, PREFIX, len(ids) - 1) is None


@pytest.mark.parametrize("room", [0, -5])
def test_no_room_at_all_is_too_long(joined: str, room: int) -> None:
    assert Encoder(joined, "completion").prompt_ids("", "", room) is None


def test_a_huge_text_is_too_long_without_being_tokenised(joined: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Encoder(joined, "completion")
    monkeypatch.setattr(known, "tokenizer", None)
    assert known.prompt_ids("x" * (100 * MAX_CHARS_PER_TOKEN + 1), PREFIX, 100) is None


# Of these letters the tokenizers above have learned no pairs, so each is a token.
LETTERS = "zjqvwkxy"
ENCODERS = [("joined", "completion"), ("apart", "completion"), ("chat", "chat"), ("chat", "completion")]


@pytest.fixture(params=ENCODERS, ids=lambda pair: "-".join(pair))
def known(request: pytest.FixtureRequest) -> Encoder:
    name, style = request.param
    return Encoder(request.getfixturevalue(name), style)


def test_a_prompt_that_fits_is_not_cut(known: Encoder) -> None:
    ids = known.prompt_ids("Rate the text. " * 10, PREFIX, 10_000)
    assert ids is not None
    assert known.prompt_ids_cut("Rate the text. " * 10, PREFIX, 10_000) == ids
    assert known.prompt_ids_cut("Rate the text. " * 10, PREFIX, len(ids)) == ids


@pytest.mark.parametrize("room", [8, 9, 11, 12])
def test_a_prompt_that_is_too_long_loses_just_its_beginning(joined: str, chat: str, room: int) -> None:
    # A completion adds <bos> in front and the line's end; the prefix "A:" is two tokens: 4 that are no letters.
    cut = Encoder(joined, "completion").prompt_ids_cut(LETTERS * 5, "A:", room)
    assert Encoder(joined, "completion").tokenizer.decode(cut) == f"<bos>{(LETTERS * 5)[-(room - 4) :]}\nA:"
    # The chat template adds <bos>, <|user|>, <|end|> and <|assistant|>; with the prefix 6.
    cut = Encoder(chat, "chat").prompt_ids_cut(LETTERS * 5, "A:", room)
    kept = (LETTERS * 5)[-(room - 6) :]
    assert Encoder(chat, "chat").tokenizer.decode(cut) == f"<bos><|user|>{kept}<|end|><|assistant|>A:"


TEXTS = [
    "Rate the text. Score: 4\n" * 12,
    "Is 12 + 30 = 42?  Yes,\tit is. " * 9,
    "日本語のテキスト、café, naïve 🙂👍🏽. " * 8,
    "  \n\n  spaces   everywhere \n" * 8,
    "\u2063" + "e\u0301" * 60,
]


@pytest.mark.parametrize("text", TEXTS, ids=["pairs", "digits", "bytes", "spaces", "marks"])
@pytest.mark.parametrize("prefix", ["", PREFIX, "\nThe instruction:\n"])
def test_what_is_left_of_a_prompt_has_the_ids_that_it_has_at_generation(known: Encoder, text: str, prefix: str) -> None:
    frame = known.prompt_ids("", prefix, 100)
    assert frame is not None
    # Every end of the text with the ids that generation gives it, from the whole text down to the last character.
    ends = [known.prompt_ids(text[start:], prefix, 10_000) for start in range(len(text))]
    for room in range(len(frame) + 6, len(frame) + 60, 3):
        cut = known.prompt_ids_cut(text, prefix, room)
        assert cut in ends
        assert len(cut) <= room
        # No more goes than must: a character has at most 6 tokens here, and a cut may part a token of up to 14.
        assert len(cut) > room - 20


def test_of_a_prompt_without_room_nothing_is_left(known: Encoder) -> None:
    frame = known.prompt_ids("", PREFIX, 100)
    assert frame is not None
    for room in (0, 1, len(frame)):
        assert known.prompt_ids_cut(LETTERS, PREFIX, room) is None
    assert known.prompt_ids_cut("", PREFIX, 100) is None
    ids = known.prompt_ids_cut(LETTERS, PREFIX, len(frame) + 1)
    assert ids == known.prompt_ids(LETTERS[-1], PREFIX, 100)


class Counting:
    """A tokenizer that notes how long the texts are that it is given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.lengths: list[int] = []

    def __call__(self, text: str, **options: Any) -> Any:
        self.lengths.append(len(text))
        return self.tokenizer(text, **options)


@pytest.mark.parametrize("text", ["日本語" * 400, "x" * 100_000], ids=["many tokens", "many characters"])
def test_a_cut_takes_few_looks_and_none_at_a_huge_text(known: Encoder, text: str) -> None:
    known.tokenizer = counting = Counting(known.tokenizer)
    assert known.prompt_ids_cut(text, "", 100) is not None
    # The tokens of the text, the ids of the whole, and those of what is left, where the cut may part a character of 3.
    assert len(counting.lengths) <= 5
    assert max(counting.lengths) <= 100 * MAX_CHARS_PER_TOKEN + len("<bos><|user|><|end|><|assistant|>")


@pytest.mark.parametrize("text", ["Write a story.\n", " Score: 4", "日本語 🙂", ""])
def test_a_completion_is_the_texts_tokens_and_the_end(known: Encoder, text: str) -> None:
    ids = known.completion_ids(text)
    # No <bos> in front, no frame around, and nothing of the text lost.
    assert ids[-1] == known.tokenizer.convert_tokens_to_ids("<eos>") == 1
    assert known.tokenizer.decode(ids) == f"{text}<eos>"
    assert [known.tokenizer.decode([token]) for token in ids].count("<bos>") == 0


def test_the_special_tokens_are_those_a_text_must_not_carry(chat: str) -> None:
    assert set(Encoder(chat, "auto").special_tokens()) >= set(SPECIAL)


def test_an_encoder_is_loaded_once(joined: str) -> None:
    spec, plain = VllmSpec(source="x"), VllmSpec(source="x", prompt_style="completion")
    assert encoder(joined, spec) is encoder(joined, spec.model_copy(update={"max_model_len": 64}))
    assert encoder(joined, plain) is not encoder(joined, spec)


@pytest.mark.engine
@pytest.mark.parametrize(
    ("source", "is_chat", "prefix", "start"),
    [
        # SmolLM2 splits digits off, so the space is its own token; its chat template begins with the system's turn.
        ("embedded:smollm2-135m-instruct", True, "Score: ", "<|im_start|>system\n"),
        # Gemma's digits stand alone too; a completion needs the <bos> that its GGUF tokenizer does not add.
        ("embedded:gemma3-270m", False, "Score: ", "<bos>Rate the text."),
    ],
)
def test_the_embedded_models(source: str, is_chat: bool, prefix: str, start: str) -> None:
    known = Encoder(str(models.resolve(source).path), "auto")
    assert known.is_chat is is_chat
    found = known.label_tokens(PREFIX, LABELS)
    assert found.prefix == prefix
    assert [known.tokenizer.decode([token]) for token in found.ids] == list(LABELS)
    ids = known.prompt_ids("Rate the text.", found.prefix, 100)
    assert ids is not None
    text = known.tokenizer.decode(ids)
    assert text.startswith(start)
    assert text.endswith(prefix)
    for label, token in zip(LABELS, found.ids, strict=True):
        assert known.prompt_ids("Rate the text.", f"{found.prefix}{label}", 100) == [*ids, token]
