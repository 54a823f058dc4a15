"""The dialogue and the news item whose quotes the tests of slots look for, and the template texts made from prompts."""

from judging.tasks import FieldSpec, load_task
from train.inversion.slots import Generalised, generalise

FIELDS = (FieldSpec(name="source", title="Conversation so far"), FieldSpec(name="candidate", title="Reply"))
SOURCE = "do you like to cook at home ? \n i do , mostly soups . what about you ?"
CANDIDATE = "i bake bread on sundays , the smell fills the whole house . it 's my only skill , i do n't cook ."
BOTH = {"source": SOURCE, "candidate": CANDIDATE}
SOURCE_BLOCK = "Conversation so far:\n<source>\n{{source}}\n</source>"
REPLY_BLOCK = "Reply:\n<candidate>\n{{candidate}}\n</candidate>"
ASK = "Rate the reply to the conversation from 1 to 5."
ARTICLE = (
    "The ferry Northern Star ran aground near Kilmore harbour early on Tuesday. Rescue boats brought all 212 "
    "passengers ashore before noon. Divers will examine the hull tomorrow, and the company has cancelled its sailings "
    "until Friday."
)
SUMMARY = "A ferry with 212 passengers ran aground near Kilmore; nobody was hurt and sailings are cancelled."
NEWS = {"source": ARTICLE, "candidate": SUMMARY}
NEWS_FIELDS = load_task("summarisation").fields_of("overall")


def made(prompt: str, content: dict[str, str] = BOTH, aspects: tuple[str, ...] = ("overall",)) -> Generalised:
    return generalise(prompt, content, FIELDS, aspects)


def news(prompt: str, content: dict[str, str] = NEWS) -> Generalised:
    return generalise(prompt, content, NEWS_FIELDS, ("coherence", "overall"))


def body(result: Generalised) -> str:
    """The text without the reply format, which must be its last paragraph."""
    text, end = result.text[: -len("\n\n{{reply_format}}")], result.text[-len("\n\n{{reply_format}}") :]
    assert end == "\n\n{{reply_format}}"
    return text


def changed(text: str, every: int) -> str:
    """`text` with each so-manieth word another one."""
    return " ".join("elsewhere" if place % every == every - 1 else word for place, word in enumerate(text.split(" ")))
