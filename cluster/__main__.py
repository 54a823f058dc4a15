"""The command line: `inverdict COMMAND ...`, also `python -m cluster COMMAND ...`. Parses first, imports late.

A command is a name, a line of help and the place of its function. Jobs take a configuration; what a job does is the
business of its module. Exit codes: 0 done, 1 failed, 2 the user's input, 3 finished with too many unscored rows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import select
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster.jobs import JOBS, LOOKS, RETRIES, SERVE, TOOLS, sections
from cluster.terminal import say, shown


def main(argv: Sequence[str] | None = None) -> int:
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parser(argv).parse_args(argv)
    try:
        done = int(args.command(args))
        sys.stdout.flush()
        return done
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        return 1
    except Exception as error:
        # An error class that carries `exit_code` is written for people; anything else is ours to mend.
        code = getattr(error, "exit_code", None)
        if code is None:
            from cluster.errors import storage_problem

            if (problem := storage_problem(error)) is None:
                raise
            print(shown(f"inverdict {args.name}: {problem}"), file=sys.stderr)
            return 1
        print(shown(f"inverdict {args.name}: {error}"), file=sys.stderr)
        return int(code)
    except KeyboardInterrupt:
        print(f"inverdict {args.name}: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _reader_is_gone() -> bool:
    """Whether nobody reads the output any more (`| head`). Then Python's own flush at the end must not fail as well."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError):  # no file behind it
        return False
    output = select.poll()
    output.register(number, select.POLLOUT)
    is_gone = any(events & (select.POLLERR | select.POLLHUP) for _, events in output.poll(0))
    if is_gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return is_gone


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="inverdict", description="Judges of generated text that agree with people.")
    parser.add_argument("--version", action="version", version="inverdict 0.1.0")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    for name, (_, words) in {"run": ("", f"all jobs of a configuration: {', '.join(JOBS)}"), **JOBS, **LOOKS}.items():
        job = commands.add_parser(name, help=words, description=words)
        _add_job_arguments(job, name)
        job.set_defaults(command=_run)
    server = commands.add_parser("serve", help=SERVE[1], description=SERVE[1])
    _add_config_arguments(server)
    server.set_defaults(command=_serve)
    config = commands.add_parser(
        "config", help="show a configuration as it is understood, or the JSON schema of all keys"
    )
    config.add_argument("action", choices=("show", "schema"))
    config.add_argument("config", nargs="?", type=Path, metavar="CONFIG.yaml")
    config.add_argument("--set", dest="overrides", action="append", default=[], metavar="a.b=v")
    config.add_argument("--markdown", action="store_true", help="the schema as a page of tables (docs/config.md)")
    config.set_defaults(command=_config)
    for name, (module, words) in TOOLS.items():
        tool = commands.add_parser(name, help=words, description=words)
        tool.set_defaults(command=_tool(module))
        # A tool's module is imported only where the command is asked for: `--help` stays fast.
        if name in argv[:1]:
            importlib.import_module(module).add_arguments(tool)
    return parser


def _add_config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="a.b=v",
        help="change a key of the configuration",
    )


def _add_job_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    _add_config_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    if name in (*RETRIES, "run"):
        parser.add_argument("--retry-failed", action="store_true", help="ask again where there is no score")
    if name == "plan-labels":
        parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="write the texts to label, in order")
    if name == "evaluate":
        parser.add_argument(
            "--through-serve",
            action="store_true",
            help="ask the evaluators of a running `inverdict serve` (ray.address)",
        )


def _tool(module: str) -> Callable[[argparse.Namespace], int]:
    return lambda args: importlib.import_module(module).main(args)


def _run(args: argparse.Namespace) -> int:
    from cluster import models, publish
    from cluster.config import load

    run = load(args.config, args.overrides, sections())
    jobs = _chain(run) if args.name == "run" else [args.name]
    store = run.publish if args.name not in LOOKS else None
    if store:
        publish.check(run.run, store)
    worst, published, summaries = 0, 0, {}
    for job in jobs:
        module = importlib.import_module({**JOBS, **LOOKS}[job][0])
        options = {"retry_failed": args.retry_failed} if job in RETRIES else {}
        if getattr(args, "through_serve", False):
            options["through_serve"] = True
        if getattr(args, "out", None):
            options["out"] = args.out
        with models.looked_up_once():
            code, summaries[job] = module.main(run, **options)
        worst = max(worst, code)
        if not args.json and (args.name != "run" or job == jobs[-1]):
            print(shown(module.render(summaries[job])), flush=True)
        if store:
            published = _publish(run, store)  # the last one copies what an earlier one could not
    if args.json:
        print(json.dumps(summaries if args.name == "run" else summaries[args.name], indent=1))
    return max(worst, published)


def _publish(run: Any, store: str) -> int:
    """0, or 1 where the store refuses: no reason to stop the jobs that are still to do."""
    from cluster import publish
    from cluster.errors import JobFailed

    try:
        copied = publish.publish(run.run, store)
    except JobFailed as error:
        say(str(error))
        return 1
    say(f"publish: {copied.num_files} files, {copied.num_bytes / 1e6:.1f} MB, to {publish.shown(store)}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    from cluster.config import load

    run = load(args.config, args.overrides, sections())
    return int(importlib.import_module(SERVE[0]).main(run))


def _chain(run: Any) -> list[str]:
    """The jobs of `run`: those with a section, and the report where there is an evaluation."""
    from cluster.errors import UserError

    jobs = [job for job in JOBS if getattr(run, "evaluate" if job == "report" else job) is not None]
    if not jobs:
        raise UserError(f"the configuration has no section of a job: {', '.join(JOBS)}")
    return jobs


def _config(args: argparse.Namespace) -> int:
    from cluster.config import load, run_schema
    from cluster.errors import UserError

    if args.action == "schema":
        schema = run_schema(sections()).model_json_schema()
        if args.markdown:
            from cluster.config_page import page

            print(page(schema), end="")
        else:
            print(json.dumps(schema, indent=1))
        return 0
    if args.config is None:
        raise UserError("name the configuration to show: inverdict config show CONFIG.yaml")
    print(load(args.config, args.overrides, sections()).model_dump_json(indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
