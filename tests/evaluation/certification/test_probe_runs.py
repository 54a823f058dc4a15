"""Which copies and pairs of the measured records the probes judge."""

from evaluation.certification.probe_runs import ProbesConfig, copies, pairs
from judging.comparison import in_order
from tests.evaluation.making import record


def test_copies_and_pairs_follow_the_seed_and_keep_their_group() -> None:
    made = [record(f"{group}{n}", group, candidate=f"One {n}. Two.") for group in "abc" for n in range(3)]
    config = ProbesConfig(position=3, length=2, format=2, injection=1, rerun=4)
    found = copies(made, config, 0)
    kinds = [one.kind for one in found]
    # Four unchanged ones, since `rerun` needs the most; ten attacks on one text.
    assert [kinds.count(kind) for kind in ("base", "length", "format")] == [4, 2, 2]
    assert len(found) == 4 + 2 + 2 + 10 and len({one.record.id for one in found}) == len(found)
    assert {one.record.group for one in found} <= set("abc")
    assert [one.record.id for one in copies(made[::-1], config, 0)] == [one.record.id for one in found]
    assert copies(made, ProbesConfig(position=0, length=0, format=0, injection=0, rerun=0), 0) == []
    chosen = pairs(made, config, 0)
    # One pair per group comes first, and no record is in two pairs.
    assert sorted(one.group for one, _ in chosen) == ["a", "b", "c"]
    assert all(one.group == other.group and one.id != other.id for one, other in chosen)
    assert pairs([record("x", "a"), record("y", "b")], config, 0) == []
    first = in_order(*chosen[0])
    assert (first.candidate, first.fields["other"]) == (chosen[0][0].candidate, chosen[0][1].candidate)
