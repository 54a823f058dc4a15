"""The Dockerfiles, as far as they can be checked without building: hadolint, the base, the user, what is copied."""

import fnmatch
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("Dockerfile.cpu", "Dockerfile.gpu")


def lint(path: Path) -> list[str]:
    """hadolint's rules that the file breaks."""
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    assert program, "hadolint is not installed: make setup"
    done = subprocess.run([program, "--format", "json", str(path)], capture_output=True, text=True, check=False)
    return [f"{one['line']}: {one['code']} {one['message']}" for one in json.loads(done.stdout)]


def instructions(name: str) -> list[tuple[str, str]]:
    """`(INSTRUCTION, rest)` of a Dockerfile, with comments gone and lines joined."""
    lines = [line for line in (ROOT / "deploy" / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    pairs = [line.split(None, 1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in pairs]


@pytest.mark.parametrize("name", FILES)
def test_hadolint_finds_nothing(name: str) -> None:
    assert lint(ROOT / "deploy" / name) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [("FROM python\nUSER 1\n", "DL3006"), ("FROM python:3.11.1\nRUN cd /a\n", "DL3003"), ("FRO python:3\n", "DL1000")],
)
def test_hadolint_is_at_work(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "Dockerfile").write_text(text)
    assert any(code in line for line in lint(tmp_path / "Dockerfile"))


@pytest.mark.parametrize("name", FILES)
def test_the_image_is_pinned_and_runs_as_no_root(name: str) -> None:
    found = instructions(name)
    bases = [rest for word, rest in found if word == "FROM"]
    assert bases
    assert all(re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+[\w.-]*", base) for base in bases)
    assert [rest for word, rest in found if word == "USER"][-1] == "1000"
    assert "USER" in [word for word, _ in found][-2:]
    assert not [rest for word, rest in found if word == "ADD"]
    # The packages are the pins': what is installed by name elsewhere is the distribution's.
    runs = " ".join(rest for word, rest in found if word == "RUN")
    assert f"deploy/setup.sh {name.removeprefix('Dockerfile.')} python3.11 /opt/venv" in runs
    assert not re.search(r"pip install (?!-q --no-deps -r requirements/)", runs)
    assert "curl" not in runs


def test_both_images_have_one_base() -> None:
    """Ray refuses nodes of another Python."""
    assert len({rest for name in FILES for word, rest in instructions(name) if word == "FROM"}) == 1


@pytest.mark.parametrize("name", FILES)
def test_no_secret_goes_in(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text()
    assert not re.search(r"(?i)(token|password|secret|api_key)\w*=", text)


def left_out() -> list[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def is_left_out(path: str) -> bool:
    parts = path.split("/")
    return any(
        fnmatch.fnmatch(parts[0], rule) or (rule.startswith("**/") and fnmatch.fnmatch(parts[-1], rule[3:]))
        for rule in left_out()
    )


def test_what_the_installation_reads_is_copied() -> None:
    needed = [
        *("pyproject.toml", "README.md", "LICENSE", "deploy/setup.sh", "configs/serving.yaml", "configs/demo.yaml"),
        *(f"requirements/{name}.txt" for name in ("cpu", "gpu", "models", "overrides", "uv", "cloud")),
        *(f"{package}/__init__.py" for package in ("judging", "cluster", "evaluation", "serve", "train", "retrieval")),
        *("judging/prompts/qa.yaml", "examples/constructed.jsonl", "examples/labelled.jsonl"),
        *(f"serve/api/{page}.html" for page in ("page", "endpoints")),
    ]
    for path in needed:
        assert (ROOT / path).exists()
        assert not is_left_out(path)


@pytest.mark.parametrize(
    "path", [".git/config", ".venv/bin/python", "runs/demo/scores.parquet", ".env", "keys.json", "auth/auth_token"]
)
def test_what_may_hold_a_secret_is_not_copied(path: str) -> None:
    assert is_left_out(path)


def test_the_cloud_pins_do_not_contradict_the_others() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / "requirements" / name).read_text().splitlines()
        return dict(line.split("==") for line in lines if line and not line.startswith("#"))

    cloud, cpu = pins("cloud.txt"), pins("cpu.txt")
    assert {name: cpu[name] for name in cloud.keys() & cpu.keys()} == {n: cloud[n] for n in cloud.keys() & cpu.keys()}


def test_the_gpu_pins_take_the_gpu_s_torch() -> None:
    lines = (ROOT / "requirements" / "gpu.txt").read_text().splitlines()
    assert [line for line in lines if line.startswith("torch==")] == ["torch==2.13.0"]
    assert any(line.startswith("nvidia-cudnn-cu13==") for line in lines)
