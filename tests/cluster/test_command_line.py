"""The command line from outside: fast help, exit codes, where each output goes."""

import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from cluster import __main__ as command_line
from cluster import jobs
from cluster.__main__ import main
from cluster.config import run_schema
from cluster.errors import JobFailed, UserError

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
def test_an_unknown_command_or_option_is_named(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr()
    assert (stopped.value.code, said.out) == (2, "")
    assert words in said.err


@pytest.mark.parametrize(
    ("text", "arguments", "named"),
    [
        (None, ["evaluate", "none.yaml"], "none.yaml"),
        ("run: r\nsed: 1\n", ["evaluate", "c.yaml"], "c.yaml: Unknown key `sed`"),
        ("run: r\n", ["evaluate", "c.yaml"], "no `evaluate` section"),
        (
            "run: r\nevaluate: {judges: {j: {model: m}}}\n",
            ["run", "c.yaml"],
            "no `data` section",
        ),
        (
            "run: r\nevaluate: {judges: {j: {model: m}}}\ndata: {records: [x.jsonl]}\n",
            ["evaluate", "c.yaml"],
            "evaluate.judges.j.model",
        ),
        ("run: r\n", ["report", "c.yaml"], "r/evaluate"),
        (
            "run: r\n",
            ["run", "c.yaml"],
            "distill, sft, invert",
        ),
        ("run: r\nreport: {}\n", ["run", "c.yaml"], "distill, sft, invert"),
        ("run: r\n", ["distill", "c.yaml"], "no `distill` section"),
        (
            "run: r\ndistill: {models: [m]}\n",
            ["run", "c.yaml"],
            "no `instructions` section",
        ),
        (
            "run: r\ndistill: {models: [m]}\ninstructions: {files: [x.jsonl]}\n",
            ["distill", "c.yaml"],
            "`distill.models`",
        ),
        (
            "run: r\ndistill: {models: [m]}\ninstructions: {files: [x.jsonl]}\nmodels: {m: {backend: scripted}}\n",
            ["distill", "c.yaml"],
            "x.jsonl",
        ),
        ("run: r\n", ["sft", "c.yaml"], "no `sft` section"),
        ("run: r\n", ["invert", "c.yaml"], "no `invert` section"),
        (
            "run: r\ninvert: {models: [m]}\ndata: {records: [x.jsonl]}\n",
            ["invert", "c.yaml"],
            "data.pool",
        ),
        ("run: r\n", ["config", "show"], "configuration file"),
        ("run: r\n", ["config", "show", "c.yaml", "--set", "seed"], "--set seed:"),
    ],
)
def test_the_users_mistake_is_one_line_and_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    text: str | None,
    arguments: list[str],
    named: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    code = main(arguments)
    said = capsys.readouterr()
    assert (code, said.out) == (2, "")
    assert said.err.startswith(f"inverdict {arguments[0]}: ")
    assert named in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_the_exit_code_reaches_the_shell(tmp_path: Path) -> None:
    done = inverdict("evaluate", "none.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


EVALUATION = "run: r\nevaluate: {judges: {j: {model: m}}}\n"


def job(monkeypatch: pytest.MonkeyPatch, **codes: int | BaseException) -> list[str]:
    """Put jobs in the place of the real ones that end with the exit code, or raise; returns which have run."""
    done = []

    def module(name: str) -> types.SimpleNamespace:
        def run(config: object, **options: object) -> tuple[int, dict[str, object]]:
            done.append(name)
            code = codes[name]
            if isinstance(code, BaseException):
                raise code
            return code, {"name": name, **options}

        return types.SimpleNamespace(main=run, render=lambda summary: f"{name} {summary}")

    made = {f"fake.{name}": module(name) for name in codes}
    monkeypatch.setattr(command_line, "JOBS", {name: (f"fake.{name}", "a fake") for name in codes})
    known = command_line.importlib.import_module
    monkeypatch.setattr(command_line.importlib, "import_module", lambda name: made.get(name) or known(name))
    return done


def test_run_does_every_job_and_ends_with_the_worst_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(EVALUATION)
    job(monkeypatch, evaluate=3, report=0)
    assert main(["run", str(tmp_path / "c.yaml"), "--retry-failed"]) == 3
    # The last job's result is the run's.
    assert capsys.readouterr().out == "report {'name': 'report'}\n"
    assert main(["evaluate", str(tmp_path / "c.yaml"), "--retry-failed"]) == 3
    assert capsys.readouterr().out == "evaluate {'name': 'evaluate', 'retry_failed': True}\n"
    assert main(["run", str(tmp_path / "c.yaml"), "--json"]) == 3
    summaries = json.loads(capsys.readouterr().out)
    assert summaries == {"evaluate": {"name": "evaluate", "retry_failed": False}, "report": {"name": "report"}}
    assert main(["report", str(tmp_path / "c.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "report"}


SECTIONS = {
    "distill": "instructions: {files: [x]}\ndistill: {models: [m]}\n",
    "sft": "sft: {models: {m: {base: m}}}\n",
    "invert": "invert: {models: [m]}\n",
    "evaluate": "evaluate: {judges: {j: {model: m}}}\n",
    "report": "report: {}\n",
}


@pytest.mark.parametrize(
    ("given", "done"),
    [
        (["distill"], ["distill"]),
        (["invert", "distill", "sft"], ["distill", "sft", "invert"]),
        # The report needs no section of its own, and none makes a report without an evaluation.
        (["evaluate"], ["evaluate", "report"]),
        (["report", "evaluate"], ["evaluate", "report"]),
        (["report", "sft"], ["sft"]),
        (list(SECTIONS), list(SECTIONS)),
    ],
)
def test_run_does_the_jobs_that_have_a_section_in_their_order(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    done: list[str],
) -> None:
    (tmp_path / "c.yaml").write_text("run: r\n" + "".join(SECTIONS[name] for name in given))
    ran = job(monkeypatch, **dict.fromkeys(SECTIONS, 0))
    assert main(["run", str(tmp_path / "c.yaml"), "--json"]) == 0
    assert ran == done
    assert list(json.loads(capsys.readouterr().out)) == done
    # A job that is asked for by name runs whether or not it has a section: what is missing is the job's to say.
    for name in SECTIONS:
        main([name, str(tmp_path / "c.yaml")])
    assert ran == [*done, *SECTIONS]


def test_a_job_that_fails_is_one_line_and_the_last_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("run: r\n" + "".join(SECTIONS.values()))
    ran = job(monkeypatch, **{**dict.fromkeys(SECTIONS, 0), "sft": JobFailed("sft: the worker died 3 times")})
    assert main(["run", str(tmp_path / "c.yaml")]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "inverdict run: sft: the worker died 3 times\n")
    assert ran == ["distill", "sft"]


TRACE = (
    "ray::MapWorker()\n  File 'x'\n{}: Not found on n7: /a. Mount it.\n\nThe above ...\nray.exceptions.UserCodeError: x"
)


def in_a_task(error: Exception) -> Exception:
    """An error as `ray.get` raises it: of its own type, with its trace as text."""
    from ray.exceptions import RayTaskError

    made: Exception = RayTaskError("encode", f"Traceback\n{type(error).__name__}: {error}", error).as_instanceof_cause()
    return made


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(TRACE.format("cluster.errors.UserError")),
        RuntimeError(TRACE.format("judging.errors.InputError")),
        in_a_task(UserError("Not found on n7: /a. Mount it.")),
    ],
)
def test_what_a_worker_refuses_is_one_line(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("run: r\n")
    job(monkeypatch, optimise=error)
    assert main(["optimise", str(tmp_path / "c.yaml")]) == 2
    assert capsys.readouterr().err == "inverdict optimise: Not found on n7: /a. Mount it.\n"


def test_a_bug_while_a_refusal_was_handled_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "c.yaml").write_text("run: r\n")
    job(monkeypatch, optimise=RuntimeError(f"{TRACE.format('cluster.errors.UserError')}\nKeyError: 'a'"))
    with pytest.raises(RuntimeError, match="KeyError"):
        main(["optimise", str(tmp_path / "c.yaml")])


def test_our_own_mistake_is_not_hidden_and_a_stop_is_130(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("run: r\n")
    job(monkeypatch, evaluate=ZeroDivisionError(), report=KeyboardInterrupt())
    with pytest.raises(ZeroDivisionError):
        main(["evaluate", str(tmp_path / "c.yaml")])
    assert main(["report", str(tmp_path / "c.yaml")]) == 130
    assert "inverdict report: interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["config", "schema"], ["models", "list"]])
def test_a_reader_who_goes_early_sees_no_traceback(words: list[str]) -> None:
    """Of much output and of little, which is written at the end alone."""
    command = [sys.executable, "-m", "cluster", *words]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (1, "")


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
    assert set(schema["properties"]) == {"run", "seed", "ray", "models", "publish", *jobs.SECTIONS}
    assert {"data", "instructions", "distill", "sft", "invert", "evaluate", "report"} <= schema["properties"].keys()
    assert "tokens" in schema["$defs"]["VllmSpec"]["properties"]["max_model_len"]["description"]
    assert schema["additionalProperties"] is False
    # A model has a source or, as a LoRA adapter, that of its base.
    vllm = schema["$defs"]["VllmSpec"]
    assert (vllm["required"], vllm["anyOf"]) == ([], [{"required": ["source"]}, {"required": ["base", "adapter"]}])


def test_the_page_of_all_keys_is_that_of_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "schema", "--markdown"]) == 0
    page = capsys.readouterr().out
    assert (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == page, (
        "run `inverdict config schema --markdown > docs/config.md`"
    )
    schema = run_schema(jobs.sections()).model_json_schema()
    sections = [one for one in schema["$defs"].values() if "properties" in one]
    for name in {name for one in sections for name in one["properties"]}:
        assert f"| `{name}` |" in page
    for name in jobs.SECTIONS:
        assert f"## {name}\n" in page
    # Each kind of a model has a table of its own.
    assert "## models (backend: http)" in page and "## evaluate.judges.icl" in page
