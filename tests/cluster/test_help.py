"""Every command's `--help` ends with an example: a valid command line on a configuration of configs/."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from cluster import config, jobs
from cluster.__main__ import _parser, main

ROOT = Path(__file__).parents[2]
COMMANDS = ("run", *jobs.JOBS, *jobs.LOOKS, "serve", "config", *jobs.TOOLS)
# Commands whose example reads no configuration.
WITHOUT = ("agreement", "init", "view")
# Jobs whose section may be omitted: they have defaults.
OPTIONAL = ("certify", "report")


def help_of(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([*command.split(), "--help"])
    assert stopped.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_ends_with_a_valid_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, heading, example = help_of(command, capsys).partition("\nExample:\n")
    assert heading, "no example"
    lines = [shlex.split(line) for line in example.splitlines()]
    assert lines[0][:2] == ["inverdict", command]
    configurations = []
    for program, *arguments in lines:
        assert program == "inverdict"
        args = _parser(arguments).parse_args(arguments)
        if getattr(args, "config", None):
            configurations.append(args.config)
            # The overrides name keys that exist.
            run = config.load(ROOT / args.config, args.overrides, jobs.sections())
            if command in jobs.JOBS and command not in OPTIONAL:
                section = jobs.section_of(command)
                assert getattr(run, section) is not None, f"{args.config} has no section `{section}`"
    assert command in WITHOUT or configurations
    for path in configurations:
        assert path.parts[0] == "configs" and (ROOT / path).is_file()


def test_the_help_of_the_program_has_an_example_and_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of("", capsys)
    assert text.rstrip().rpartition("\nExample:\n")[2].split()[:2] == ["inverdict", "run"]
    assert [command for command in COMMANDS if f"\n    {command}" not in text] == []


@pytest.mark.parametrize("action", ["list", "fetch"])
def test_the_help_of_an_action_has_the_example_of_its_command(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\nExample:\n  inverdict models " in help_of(f"models {action}", capsys)


def test_every_example_belongs_to_a_command() -> None:
    assert set(jobs.EXAMPLES) == set(COMMANDS)
