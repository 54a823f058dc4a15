"""fetch.yaml, and the runbook's job made from it: public data come to where every pod looks for them."""

import re
import subprocess
from typing import Any

import yaml

from judging.public_data.registry import registry
from tests.deploy.manifests import ROOT, cluster_spec, documents, groups, ray_object


def only_box(template: dict[str, Any]) -> dict[str, Any]:
    (box,) = template["spec"]["containers"]
    return dict(box)


def test_public_data_are_fetched_to_where_every_pod_looks(ray: dict[str, Any]) -> None:
    (job,) = documents("fetch.yaml")
    (cache,) = [one for one in only_box(job["spec"]["template"])["env"] if one["name"] == "INVERDICT_CACHE"]
    for group in groups(cluster_spec(ray)):
        box = only_box(group["template"])
        mounts = [one["mountPath"] for one in box["volumeMounts"] if one["name"] == "shared"]
        assert mounts == [one["mountPath"] for one in only_box(job["spec"]["template"])["volumeMounts"]]
        assert cache in box["env"] and cache["value"].startswith(f"{mounts[0]}/")
        assert {"name": "INVERDICT_DATA", "value": f"{mounts[0]}/data"} in box["env"]


def test_the_job_that_fetches_data_as_the_runbook_makes_it() -> None:
    """The runbook's `sed` over fetch.yaml: another job, which fetches all that rayjob.yaml names."""
    runbook = (ROOT / "docs" / "OPERATIONS.md").read_text()
    (line,) = re.findall(r"(sed -e [^|]+) \| kubectl apply", runbook)
    made = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    job, (original,) = yaml.safe_load(made), documents("fetch.yaml")
    assert job["metadata"]["name"] == "inverdict-fetch-data" != original["metadata"]["name"]
    command = only_box(job["spec"]["template"])["command"]
    assert command[:3] == ["inverdict", "data", "fetch"] and set(command[3:]) <= set(registry())
    entrypoint = ray_object("rayjob.yaml")["spec"]["entrypoint"]
    assert {*re.findall(r"dataset:(\w+)", entrypoint), "infinity_instruct"} == set(command[3:])
