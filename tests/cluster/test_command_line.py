"""The command line from outside: fast help, exit codes, where each output goes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def inverdict(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cluster", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_help_answers_within_half_a_second() -> None:
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        done = inverdict("--help")
        seconds.append(time.perf_counter() - begun)
        assert done.returncode == 0
        assert "evaluate" in done.stdout
    assert min(seconds) < 0.5


@pytest.mark.parametrize("arguments", [["--help"], ["evaluate", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom cluster.__main__ import main\n"
        f"try: main({arguments})\n"
        "except SystemExit: pass\n"
        "print(sorted({'ray', 'torch', 'pydantic', 'numpy', 'transformers', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_module_and_the_command_are_one() -> None:
    command = Path(sys.executable).with_name("inverdict")
    done = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, inverdict("--version").stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: COMMAND"),
        (["evalute", "x.yaml"], "invalid choice: 'evalute'"),
        (["evaluate"], "required: CONFIG.yaml"),
        (["evaluate", "x.yaml", "--fast"], "unrecognized arguments: --fast"),
        (["report", "x.yaml", "--retry-failed"], "unrecognized arguments: --retry-failed"),
        (["config", "print"], "invalid choice: 'print'"),
    ],
)
def test_an_unknown_command_or_option_is_named(arguments: list[str], words: str) -> None:
    done = inverdict(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        (None, ["evaluate", "none.yaml"], "inverdict evaluate: there is no configuration none.yaml"),
        ("run: r\nsed: 1\n", ["evaluate", "c.yaml"], "inverdict evaluate: c.yaml: `sed` is no known key"),
        ("run: r\n", ["evaluate", "c.yaml"], "inverdict evaluate: the configuration has no `evaluate` section"),
        (
            "run: r\nevaluate: {judges: {j: {model: m}}}\n",
            ["run", "c.yaml"],
            "inverdict run: the configuration has no `data` section",
        ),
        (
            "run: r\nevaluate: {judges: {j: {model: m}}}\ndata: {records: [x.jsonl]}\n",
            ["evaluate", "c.yaml"],
            "inverdict evaluate: evaluate.judges.j.model: 'm' is none of models: (none)",
        ),
        ("run: r\n", ["report", "c.yaml"], "inverdict report: r/evaluate holds no finished evaluation"),
        ("run: r\n", ["config", "show"], "inverdict config: name the configuration to show"),
        ("run: r\n", ["config", "show", "c.yaml", "--set", "seed"], "inverdict config: --set seed: write it as"),
    ],
)
def test_the_users_mistake_is_one_sentence_and_exit_2(
    tmp_path: Path, text: str | None, arguments: list[str], sentence: str
) -> None:
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    done = inverdict(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_config_show_is_the_resolved_configuration_as_json(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("run: r\nmodels: {m: {backend: scripted}}\n")
    done = inverdict("config", "show", "c.yaml", "--set", "models.m.delay_s=0.5", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    shown = json.loads(done.stdout)
    assert (shown["run"], shown["seed"], shown["models"]["m"]["delay_s"]) == ("r", 0, 0.5)
    assert shown["evaluate"] is None


def test_config_schema_describes_every_section() -> None:
    done = inverdict("config", "schema")
    assert (done.returncode, done.stderr) == (0, "")
    schema = json.loads(done.stdout)
    assert set(schema["properties"]) == {"run", "seed", "ray", "models", "data", "evaluate", "report"}
    assert "tokens" in schema["$defs"]["VllmSpec"]["properties"]["max_model_len"]["description"]
    assert schema["additionalProperties"] is False
