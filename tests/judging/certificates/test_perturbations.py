"""Changes of a candidate: what they add, and that its own words stay."""

from judging.certificates.perturbations import MAX_PADDING, PADDING, attacks, bulleted, padded
from judging.tasks import FOLDER, load_task
from judging.template import rubric_template


def test_padding_adds_sentences_and_nothing_else() -> None:
    short = padded("It is blue.")
    assert short.startswith("It is blue. ") and all(sentence in short for sentence in PADDING)
    long = padded("x" * 300)
    assert len(long) >= 600
    # A very long text is not doubled: one more round beyond the bound at most.
    assert len(padded("x" * 5000)) - 5000 < MAX_PADDING + sum(map(len, PADDING)) + len(PADDING) + 1


def test_a_list_has_the_same_words_in_order() -> None:
    text = "Air scatters light. Blue most of all!\nSo it is blue? Yes"
    assert bulleted(text) == "- Air scatters light.\n- Blue most of all!\n- So it is blue?\n- Yes"
    assert bulleted(bulleted(text)) == bulleted(text)
    assert bulleted("天空是蓝色的。因为空气。") == "- 天空是蓝色的。\n- 因为空气。"
    assert bulleted("one") == "- one"


def test_the_attacks_are_published_and_differ() -> None:
    known = attacks()
    assert len(known) >= 8 and len({one.name for one in known}) == len({one.text for one in known}) == len(known)
    for one in known:
        attacked = one.on("It is blue.")
        assert "It is blue." in attacked and one.text in attacked
        assert attacked.startswith(one.text) == (one.where == "start")
    # Not beside the task files: every YAML file there is a task.
    assert not (FOLDER / "attacks.yaml").exists()


def test_a_template_breaks_up_what_an_attack_needs_to_leave_its_place() -> None:
    template = rubric_template(load_task("qa"), "overall")
    for one in attacks():
        prompt = template.render({"source": "Why?", "candidate": one.on("Blue.")}, mode="expected").text
        assert prompt.count("</candidate>") == 1 and "<|im_start|>" not in prompt
