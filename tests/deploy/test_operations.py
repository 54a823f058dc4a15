"""docs/OPERATIONS.md: the messages that it quotes are those of the code, and the files and commands exist."""

import json
import re
from pathlib import Path

import pytest
import yaml
from ray.autoscaler.tags import TAG_RAY_CLUSTER_NAME

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "OPERATIONS.md").read_text()
TABLE = TEXT[TEXT.index("## What failures look like") :]
# Rows that quote no sentence of a program.
NO_MESSAGE = ("a job that waits", "exit code 3", "`degraded: true`")


def quoted() -> list[str]:
    rows = [line.split("|")[1].strip() for line in TABLE.splitlines() if line.startswith("| ")][1:]
    return [re.findall(r"`([^`]+)`", cell)[0] for cell in rows if not cell.startswith(NO_MESSAGE)]


def said() -> str:
    """The sources of ours and of Ray's that speak to people, with adjacent string literals joined."""
    import ray

    packages = ("cluster", "evaluation", "serve", "train")
    texts = [path.read_text() for package in packages for path in sorted((ROOT / package).rglob("*.py"))]
    texts.append((Path(ray.__file__).parent / "_private/authentication/authentication_constants.py").read_text())
    return re.sub(r"\"\s*\n\s*f?\"", "", "\n".join(texts))


def test_messages_are_quoted() -> None:
    assert len(quoted()) > 12


@pytest.mark.parametrize("message", quoted())
def test_every_message_is_one_of_the_code(message: str) -> None:
    assert message in said()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"(?:deploy|configs|requirements)/[\w./-]+\w", TEXT))))
def test_every_file_exists(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_head_s_policy_covers_what_ray_calls_and_no_more() -> None:
    import ray

    (text,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    statements = json.loads(text)["Statement"]
    given = [one["Action"] for one in statements]
    actions = {action for one in given for action in ([one] if isinstance(one, str) else one)}
    source = (Path(ray.__file__).parent / "autoscaler/_private/aws/node_provider.py").read_text()
    calls = {
        "ec2.instances.filter(": "ec2:DescribeInstances",
        "create_instances(": "ec2:RunInstances",
        "meta.client.create_tags(": "ec2:CreateTags",
        "meta.client.terminate_instances": "ec2:TerminateInstances",
    }
    assert all(call in source for call in calls)
    assert actions == {*calls.values(), "iam:PassRole"}
    # Other machines of the account are out of its reach, by the tag that Ray gives to its own.
    (end,) = [one for one in statements if "ec2:TerminateInstances" in one["Action"]]
    cluster = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())["cluster_name"]
    assert end["Condition"] == {"StringEquals": {f"aws:ResourceTag/{TAG_RAY_CLUSTER_NAME}": cluster}}


def test_every_command_of_ray_and_of_ours_exists() -> None:
    from ray.scripts.scripts import cli
    from ray.serve.scripts import cli as serve

    from cluster.jobs import JOBS, LOOKS, TOOLS

    assert set(re.findall(r"bin/ray ([a-z-]+)", TEXT)) <= set(cli.commands)
    assert set(re.findall(r"bin/serve ([a-z-]+)", TEXT)) <= set(serve.commands)
    ours = set(re.findall(r"bin/inverdict ([a-z-]+)|'inverdict ([a-z-]+)", TEXT))
    assert {one or other for one, other in ours} <= {*JOBS, *LOOKS, *TOOLS}
