import pytest

from judging.self_preference import own_family


@pytest.mark.parametrize(
    ("patterns", "system", "own"),
    [
        (("qwen*",), "Qwen2.5-7B-Instruct", True),
        (("QWEN*",), "qwen2", True),
        (("qwen*",), "my-qwen", False),  # the whole name has to match
        (("*qwen*",), "Qwen/my-qwen", True),
        (("llama*", "gemma?-*"), "gemma3-270m", True),
        (("gemma?-*",), "gemma-2b", False),
        (("gpt-4[ab]",), "GPT-4a", True),
        (("qwen*",), "", False),  # nobody knows whose text it is
        (("*",), "", False),
        ((), "qwen", False),
        (("",), "qwen", False),
    ],
)
def test_own_family(patterns: tuple[str, ...], system: str, own: bool) -> None:
    assert own_family(patterns, system) is own
