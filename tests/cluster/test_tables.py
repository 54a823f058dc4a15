"""Columns under each other."""

from cluster.tables import aligned


def test_the_first_column_to_the_left_the_others_to_the_right() -> None:
    assert aligned([["", "score"], ["length", ".5"], ["a", "1.25"]]) == "        score\nlength     .5\na        1.25"


def test_more_columns_to_the_left_and_no_blanks_at_the_end() -> None:
    rows = [["job", "what", "h"], ["fit", "towers", ""], ["index", "", "10"]]
    assert aligned(rows, num_left=2) == "job    what     h\nfit    towers\nindex          10"
