"""Placement groups of a finished engine are removed, and no others."""

import time

import pytest

from cluster.placement import _own_groups, released_groups


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_groups_made_in_the_block_are_removed() -> None:
    import ray
    from ray.util import placement_group, placement_group_table, remove_placement_group

    before = placement_group([{"CPU": 0.01}])
    with pytest.raises(RuntimeError, match="the job failed"), released_groups():
        within = placement_group([{"CPU": 0.01}, {"CPU": 0.01}])
        ray.get(within.ready(), timeout=60)
        raise RuntimeError("the job failed")
    ended = time.monotonic() + 30
    while within.id.hex() in _own_groups() and time.monotonic() < ended:
        time.sleep(0.1)
    assert _own_groups() == {before.id.hex()}
    assert placement_group_table(within)["state"] == "REMOVED"
    remove_placement_group(before)
