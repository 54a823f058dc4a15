"""The command line: `inverdict COMMAND ...`, also `python -m cluster COMMAND ...`.

Modules are imported only after parsing, so that `--help` is fast. cluster/jobs.py lists the commands. Exit codes: 0
done, 1 failed, 2 invalid input, 3 finished with too many unscored rows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import select
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cluster.jobs import (
    CONFIG,
    EXAMPLES,
    INPUTS,
    JOBS,
    LOOKS,
    ON_OBJECT_STORE,
    READ_ONLY,
    RETRIES,
    RUN,
    SERVE,
    TOOLS,
    jobs_of,
    sections,
)
from cluster.terminal import say, shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors written for users go to stderr as one line."""
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
        # Errors with an `exit_code` are written for users; anything else is a bug and keeps its traceback.
        from cluster.errors import for_users

        if (told := for_users(error)) is None:
            raise
        message, code = told
        print(shown(f"inverdict {args.name}: {message}"), file=sys.stderr)
        return code
    except KeyboardInterrupt:
        print(f"inverdict {args.name}: interrupted; the same command resumes", file=sys.stderr)
        return 130


def _reader_is_gone() -> bool:
    """Whether the reader of stdout has gone (`| head`); redirects it, so that the flush at exit cannot fail too."""
    try:
        number = sys.stdout.fileno()
    except (AttributeError, OSError):  # stdout is no file
        return False
    output = select.poll()
    output.register(number, select.POLLOUT)
    is_gone = any(events & (select.POLLERR | select.POLLHUP) for _, events in output.poll(0))
    if is_gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    return is_gone


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="inverdict", description="Calibrated LLM judges for generated text, validated against human ratings."
    )
    parser.add_argument("--version", action="version", version="inverdict 0.1.0")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")
    _document(parser, "run")
    for name, (_, words) in {"run": RUN, **JOBS, **LOOKS}.items():
        job = _command(commands, name, words)
        _add_job_arguments(job, name)
        job.set_defaults(command=_run)
    server = _command(commands, "serve", SERVE[1])
    _add_config_arguments(server)
    server.set_defaults(command=_serve)
    config = _command(commands, "config", CONFIG[1])
    config.add_argument("action", choices=("show", "schema"), help="the resolved configuration, or the JSON schema")
    _add_config_arguments(config, nargs="?")
    config.add_argument("--markdown", action="store_true", help="print the schema as Markdown tables (docs/config.md)")
    config.set_defaults(command=_config)
    for name, (module, words) in TOOLS.items():
        tool = _command(commands, name, words)
        tool.set_defaults(command=_tool(module))
        # A tool's module is imported only if the command is used, so that `--help` stays fast.
        if name in argv[:1]:
            importlib.import_module(module).add_arguments(tool)
    return parser


def _command(commands: Any, name: str, words: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=words, description=f"{words[0].upper()}{words[1:]}."
    )
    _document(parser, name)
    return parser


def _document(parser: argparse.ArgumentParser, name: str) -> None:
    """End the parser's help with the command's example."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["Example:", *(f"  inverdict {line}" for line in EXAMPLES[name].splitlines())])


def _add_config_arguments(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument("config", nargs=nargs, type=Path, metavar="CONFIG.yaml", help="configuration file")
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="a.b=v",
        help="override a configuration key; repeatable",
    )


def _add_job_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    _add_config_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    if name in (*RETRIES, "run"):
        parser.add_argument("--retry-failed", action="store_true", help="run inference again for rows without a score")
    if name in ("report", "run"):
        parser.add_argument("--verbose", action="store_true", help="print the agreement of every judge with the labels")
    if name == "plan-labels":
        parser.add_argument("--out", type=Path, metavar="FILE.jsonl", help="write the texts to label, in order")
    if name == "gate":
        parser.add_argument(
            "--require",
            action="append",
            default=[],
            metavar="'NAME >= X'",
            help="what must hold, by the end of the 95 %% interval; repeatable",
        )
        parser.add_argument("--junit", type=Path, metavar="FILE.xml", help="write the result as JUnit XML")
    if name == "evaluate":
        parser.add_argument(
            "--through-serve",
            action="store_true",
            help="send requests to the models of a running `inverdict serve` (on ray.address)",
        )


def _tool(module: str) -> Callable[[argparse.Namespace], int]:
    return lambda args: importlib.import_module(module).main(args)


def _run(args: argparse.Namespace) -> int:
    from cluster import run_copy, run_store
    from cluster.config import load

    run = load(args.config, args.overrides, sections())
    jobs = _chain(run) if args.name == "run" else [args.name]
    run_store.check_jobs(run.run, jobs, (*ON_OBJECT_STORE, *LOOKS))
    if args.name in READ_ONLY:
        with run_copy.newest_copy(run.run) as folder:
            return _run_jobs(args, run.model_copy(update={"run": folder}), jobs)
    with run_store.opened_run(run.run):
        return _run_jobs(args, run, jobs)


def _run_jobs(args: argparse.Namespace, run: Any, jobs: Sequence[str]) -> int:
    """Run the jobs in this order; returns the worst exit code."""
    from cluster import embedded, models, publish

    store = run.publish if args.name not in LOOKS else None
    if store:
        publish.check(run.run, store)
    importlib.import_module(INPUTS).main(run, args.name)
    if args.name == "run":
        sources = [str(getattr(spec, "source", "")) for spec in run.models.values()]
        embedded.download_beside(one.removeprefix("embedded:") for one in sources if one.startswith("embedded:"))
    worst, published, summaries, took = 0, 0, {}, {}
    for job in jobs:
        start = time.monotonic()
        module = importlib.import_module({**JOBS, **LOOKS}[job][0])
        options = {"retry_failed": args.retry_failed} if job in RETRIES else {}
        if getattr(args, "through_serve", False):
            options["through_serve"] = True
        options |= {name: value for name in ("out", "require", "junit") if (value := getattr(args, name, None))}
        with models.looked_up_once(None if args.name in LOOKS else run.run):
            code, summaries[job] = module.main(run, **options)
        worst, took[job] = max(worst, code), time.monotonic() - start
        if not args.json and (args.name != "run" or job == jobs[-1]):
            told = {"verbose": True} if job == "report" and args.verbose else {}
            print(shown(module.render(summaries[job], **told)), flush=True)
        if store:
            published = _publish(run, store)  # the last call copies what an earlier one could not
    if args.name == "run":
        say(f"run: {', '.join(f'{job} {seconds:.0f} s' for job, seconds in took.items())}")
    if args.json:
        print(json.dumps(summaries if args.name == "run" else summaries[args.name], indent=1))
    return max(worst, published)


def _publish(run: Any, store: str) -> int:
    """Return 0, or 1 if the store cannot be written, which does not stop the remaining jobs."""
    from cluster import publish
    from cluster.errors import JobFailed
    from cluster.object_store import shown as shown_address

    try:
        copied = publish.publish(run.run, store)
    except JobFailed as error:
        say(str(error))
        return 1
    say(f"publish: {copied.num_files} files, {copied.num_bytes / 1e6:.1f} MB, to {shown_address(store)}")
    return 0


def _serve(args: argparse.Namespace) -> int:
    from cluster import models, run_store
    from cluster.config import load

    run = load(args.config, args.overrides, sections())
    run_store.check_jobs(run.run, ["serve"], ())
    with models.looked_up_once(run.run):  # the commits that the run's other jobs have used
        return int(importlib.import_module(SERVE[0]).main(run))


def _chain(run: Any) -> list[str]:
    """The jobs of `inverdict run`, at least one."""
    from cluster.errors import UserError

    jobs = jobs_of(run)
    if not jobs:
        raise UserError(
            f"The configuration has no job's section; add at least one of {', '.join(JOBS)}.", code="missing_section"
        )
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
        raise UserError("`inverdict config show` requires a configuration file.", code="missing_file")
    print(load(args.config, args.overrides, sections()).model_dump_json(indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
