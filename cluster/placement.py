"""Removes the placement groups that an engine of a batch job leaves behind, so that the next engine finds room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def released_groups() -> Iterator[None]:
    """Remove the placement groups that this driver makes in the block.

    Ray's vLLM stage makes one for an engine over several GPUs and drops its handle. The group then lives as long as the
    driver, and the next job of `inverdict run` would wait for these GPUs for ever (ray-project/ray#64035).
    """
    before = _own_groups()
    try:
        yield
    finally:
        _remove(_own_groups() - before)


def _own_groups() -> set[str]:
    """The ids of the living groups of this driver; a group's id ends with that of its job."""
    import ray
    from ray.util import placement_group_table

    job = ray.get_runtime_context().get_job_id()
    return {id for id, one in placement_group_table().items() if id.endswith(job) and one["state"] != "REMOVED"}


def _remove(ids: set[str]) -> None:
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    for id in ids:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(id)))
