"""The cluster files for virtual machines: Ray's own validation, what they must not hold, and who runs where.

Not checked here, because it needs the cloud: whether the machine types, images and networks exist, and the mounting.
"""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = ("ray_cluster.yaml", "deploy/ray_cluster.gcp.yaml")
# An engine of configs/gpu.yaml and one of configs/serving.yaml find a node, and it is of this type.
POOLS = {"configs/gpu.yaml": "gpu_batch", "configs/serving.yaml": "gpu_serving"}


@pytest.fixture(params=FILES)
def cluster(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / request.param).read_text()))


def prepared(cluster: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    found = prepare_config(cluster)
    validate_config(found)
    return dict(found)


def test_ray_accepts_the_file(cluster: dict[str, Any]) -> None:
    found = prepared(cluster)
    assert found["docker"]["container_name"] == "inverdict"


@pytest.mark.parametrize(
    "broken", [{"max_worker": 3}, {"idle_timeout_minutes": "ten"}, {"head_node_type": 3}, {"docker": {"imag": "x"}}]
)
def test_ray_refuses_a_broken_file(cluster: dict[str, Any], broken: dict[str, Any]) -> None:
    import jsonschema

    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        prepared({**cluster, **broken})


def test_the_head_does_no_work_and_workers_come_and_go(cluster: dict[str, Any]) -> None:
    types = prepared(cluster)["available_node_types"]
    head = types.pop(cluster["head_node_type"])
    assert (head["resources"], head["max_workers"]) == ({"CPU": 0, "GPU": 0}, 0)
    assert {"--num-cpus=0", "--num-gpus=0"} <= set(words(cluster, "head"))
    assert sum(one["max_workers"] for one in types.values()) == cluster["max_workers"]
    assert {one["min_workers"] for one in types.values()} == {0}
    assert 0 < cluster["idle_timeout_minutes"] <= 15


def test_batch_is_on_spot_and_serving_on_demand(cluster: dict[str, Any]) -> None:
    def is_spot(name: str) -> bool:
        machine = cluster["available_node_types"][name]["node_config"]
        return "spot" in str([machine.get("InstanceMarketOptions"), machine.get("scheduling")]).lower()

    # The panel and the HTTP interface live on CPU nodes.
    assert [is_spot(name) for name in ("head", "cpu", "gpu_batch", "gpu_serving")] == [False, False, True, False]


def test_labels_are_such_as_ray_takes(cluster: dict[str, Any]) -> None:
    from ray._private.label_utils import validate_node_label_syntax, validate_node_labels

    for one in cluster["available_node_types"].values():
        validate_node_labels(one.get("labels", {}))
        validate_node_label_syntax(one.get("labels", {}))


def words(cluster: dict[str, Any], node: str) -> list[str]:
    (line,) = [line for line in cluster[f"{node}_start_ray_commands"] if "ray start" in line]
    return shlex.split(line)


def test_ray_start_knows_every_option(cluster: dict[str, Any]) -> None:
    from ray.scripts.scripts import start

    known = {option for one in start.params for option in one.opts}
    for node in ("head", "worker"):
        given = {word.partition("=")[0] for word in words(cluster, node) if word.startswith("--")}
        assert given
        assert given <= known


def test_token_mode_everywhere_and_the_job_server_on_loopback(cluster: dict[str, Any]) -> None:
    options = cluster["docker"]["run_options"]
    assert "--env=RAY_AUTH_MODE=token" in options
    (path,) = [one.removeprefix("--env=RAY_AUTH_TOKEN_PATH=") for one in options if "RAY_AUTH_TOKEN_PATH" in one]
    # The file lies in a folder that is mounted, so that a new token arrives without a new container.
    assert str(Path(path).parent) in cluster["file_mounts"]
    assert "--dashboard-host=127.0.0.1" in words(cluster, "head")
    assert cluster["provider"]["use_internal_ips"] is True


def test_ports_are_the_same_on_every_node_and_no_two_alike(cluster: dict[str, Any]) -> None:
    def ports(node: str) -> dict[str, int]:
        found = re.findall(r"--([a-z-]*port)=(\d+)", " ".join(words(cluster, node)))
        return {name: int(port) for name, port in found}

    head, worker = ports("head"), ports("worker")
    assert worker.items() <= head.items()
    assert len(set(head.values())) == len(head)
    low, high = head.pop("min-worker-port"), head.pop("max-worker-port")
    assert not [port for port in head.values() if low <= port <= high]


def test_no_public_address_and_no_network_that_ray_would_open(cluster: dict[str, Any]) -> None:
    for one in cluster["available_node_types"].values():
        machine = one["node_config"]
        assert "accessConfigs" not in str(machine)
        # Named, because Ray makes an open security group (AWS) or a public address (Google) where they are missing.
        assert machine.get("SecurityGroupIds") or machine.get("networkInterfaces")


def role(machine: dict[str, Any]) -> str:
    """What a machine may do in the cloud: its instance profile, or its service account."""
    if "IamInstanceProfile" in machine:
        return str(machine["IamInstanceProfile"]["Name"])
    (account,) = machine["serviceAccounts"]
    return str(account["email"])


def test_only_the_head_may_start_machines_and_no_node_gets_ray_s_own_role(cluster: dict[str, Any]) -> None:
    # Named on every machine, because Ray gives the head a broad role of its own where it is missing.
    roles = {name: role(one["node_config"]) for name, one in cluster["available_node_types"].items()}
    assert roles.pop("head").startswith("head-")
    assert {one.partition("-")[0] for one in roles.values()} == {"worker"}


def test_the_hub_s_token_is_a_file_outside_the_repository(cluster: dict[str, Any]) -> None:
    from huggingface_hub import constants

    assert "HF_TOKEN_PATH" in Path(constants.__file__).read_text()
    (path,) = [
        one.removeprefix("--env=HF_TOKEN_PATH=") for one in cluster["docker"]["run_options"] if "HF_TOKEN_PATH" in one
    ]
    source = cluster["file_mounts"][str(Path(path).parent)]
    assert source.startswith("~/")


def test_machines_sign_in_to_the_registry_before_the_image_is_pulled(cluster: dict[str, Any]) -> None:
    first = cluster["initialization_commands"][0]
    assert "docker" in first
    # With the role of the machine: no password in the file.
    assert "--password-stdin" in first or "configure-docker" in first


def test_g2_machines_get_a_disk_that_they_support() -> None:
    types = yaml.safe_load((ROOT / "deploy/ray_cluster.gcp.yaml").read_text())["available_node_types"]
    assert types["gpu_serving"]["node_config"]["machineType"].startswith("g2-")
    for one in types.values():
        (disk,) = one["node_config"]["disks"]
        assert disk["initializeParams"]["diskType"].endswith("/diskTypes/pd-balanced")


def test_workers_drain_on_their_cloud_s_notice(cluster: dict[str, Any]) -> None:
    from deploy.drain_on_notice import GRACE_S

    (line,) = [line for line in cluster["worker_start_ray_commands"] if "drain" in line]
    command = shlex.split(line.partition(">")[0])
    assert command[:3] == ["setsid", "-f", "python"]
    assert (ROOT / Path(command[3]).relative_to("/opt/inverdict")).exists()  # the image's working directory
    assert command[4:] == [cluster["provider"]["type"]]
    assert cluster["provider"]["type"] in GRACE_S
    # `ray stop` comes first, and Ray is started after it.
    assert [("stop" in one, "drain" in one, "ray start" in one) for one in cluster["worker_start_ray_commands"]] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


def test_runs_models_and_data_lie_on_the_shared_file_system(cluster: dict[str, Any]) -> None:
    options = cluster["docker"]["run_options"]
    assert "--volume=/mnt/inverdict:/mnt/inverdict" in options
    assert any(re.search(r"mount -t (efs|nfs) .* /mnt/inverdict$", line) for line in cluster["initialization_commands"])
    for name in ("HF_HOME", "INVERDICT_CACHE", "INVERDICT_DATA"):
        assert any(one.startswith(f"--env={name}=/mnt/inverdict/") for one in options)


@pytest.mark.parametrize("path", FILES)
def test_no_secret_in_the_file(path: str) -> None:
    text = (ROOT / path).read_text()
    # AWS key ids, private keys, hub tokens, bearer tokens, keys of ours, and values for names that hold secrets.
    assert not re.search(r"AKIA[0-9A-Z]{12}|BEGIN [A-Z ]*PRIVATE KEY|hf_\w{20}|[Bb]earer \w{8}|iv-\w{8}", text)
    assert not re.search(r"(?i)(secret|password|auth_token|api_key)\w*\s*[=:]\s*[^\s/]", text)


@pytest.mark.parametrize(("config", "pool"), POOLS.items())
@pytest.mark.parametrize("file", FILES)
def test_engines_find_their_nodes(file: str, config: str, pool: str) -> None:
    """Every demand of the configuration fits one node type, and only those of its pool."""
    from cluster.config import load
    from cluster.jobs import sections
    from cluster.model_specs import VllmSpec
    from cluster.vllm_arguments import vllm_arguments

    types = yaml.safe_load((ROOT / file).read_text())["available_node_types"]
    run = load(ROOT / config, [], sections())
    demands = []
    for spec in run.models.values():
        assert isinstance(spec, VllmSpec)
        one = dict(vllm_arguments(spec)["placement_group_config"]["bundle_per_worker"])
        demands.append({**one, f"accelerator_type:{spec.accelerator_type}": 0.001})
    if run.sft:
        sft = run.sft
        demands.append({"CPU": sft.cpus_per_worker, "GPU": 1, f"accelerator_type:{sft.accelerator_type}": 0.001})
    assert demands
    for demand in demands:
        fitting = [
            name
            for name, one in types.items()
            if all(one["resources"].get(what, 0) >= amount for what, amount in demand.items())
        ]
        assert fitting == [pool]
