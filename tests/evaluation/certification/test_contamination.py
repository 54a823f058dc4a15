"""The contamination check: measured records in the data used for training or selection, by group and by text."""

from pathlib import Path

from cluster.config import RunConfig
from evaluation.certification.contamination import UsedData, check_contamination, used_data
from judging.data_config import DataConfig
from judging.records import Record
from tests.evaluation.certification.certifying import contaminated
from tests.evaluation.making import record, template_at, write_records


def used(tmp_path: Path, measured: list[Record], pool: list[Record]) -> list[UsedData]:
    data = DataConfig(records=("in.jsonl",))
    return used_data(RunConfig(run=tmp_path), data, {one.id: one for one in pool}, measured)


def test_a_group_of_the_pool_is_contaminated(tmp_path: Path) -> None:
    measured = [record("a", "g1"), record("b", "g2")]
    check_contamination(measured, used(tmp_path, measured, [record("c", "g3")]))
    with contaminated("'b'", "'qa//g2'", "(data.pool)"):
        check_contamination(measured, used(tmp_path, measured, [record("c", "g2")]))


def test_groups_used_for_a_prompt_are_contaminated(tmp_path: Path) -> None:
    template_at(tmp_path / "evaluate" / "templates" / "j" / "qa.overall.txt", groups=["qa//g2"])
    measured = [record("a", "g1"), record("b", "g2")]
    with contaminated("'b'", "(evaluate/templates)"):
        check_contamination(measured, used(tmp_path, measured, []))
    check_contamination(measured[:1], used(tmp_path, measured[:1], []))


def test_records_that_selected_the_panel_are_contaminated(tmp_path: Path) -> None:
    """By group, and by the same text in another group."""
    write_records(tmp_path / "panel" / "evaluate", [record("a", "g1"), record("b", "g2")])
    same_text = record("c", "g3", source="Question g2?", candidate="Answer B")
    for leaked in (record("x", "g1"), same_text):
        with contaminated(f"'{leaked.id}'", "(panel)"):
            check_contamination([leaked], used(tmp_path, [leaked], []))
    check_contamination([record("d", "g4")], used(tmp_path, [record("d", "g4")], []))


def test_a_group_of_the_dev_part_is_contaminated(tmp_path: Path) -> None:
    measured = [record(f"r{number}", f"g{number}") for number in range(40)]
    data = DataConfig(records=("in.jsonl",), dev_share=0.5)
    dev, test = ([one for one in measured if data.develops(one) is side] for side in (True, False))
    assert dev and test
    run = RunConfig(run=tmp_path)
    check_contamination(test, used_data(run, data, {}, test))
    with contaminated(f"'{dev[0].id}'", "(data.dev_share)"):
        check_contamination([*test, dev[0]], used_data(run, data, {}, [*test, dev[0]]))


def test_texts_are_the_same_but_for_case_and_punctuation() -> None:
    one = record("a", "g1", source="Why?", candidate="It is blue.")
    assert one.text_hash == record("b", "g2", source="why", candidate="IT IS: blue").text_hash
    assert one.text_hash != record("b", "g2", source="why", candidate="It is not blue.").text_hash
    # What moves from one text to the other is another pair of texts.
    assert one.text_hash != record("b", "g2", source="Why? It", candidate="is blue.").text_hash
