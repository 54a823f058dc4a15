"""The command `inverdict view [RUN]`: a run's report and records in a browser on this machine, also while it goes on.

The pages are imported only when they are served, so that --help is fast.
"""

from __future__ import annotations

import argparse
import signal
import webbrowser
from contextlib import suppress
from pathlib import Path

from cluster.errors import UserError
from cluster.terminal import say

RUNS = Path("runs")
HOST = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict view`."""
    parser.add_argument(
        "run", nargs="?", type=Path, metavar="RUN", help="run folder (default: the most recent one below ./runs)"
    )
    parser.add_argument("--port", type=int, default=0, help=f"port on {HOST} (default: a free one)")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")


def main(args: argparse.Namespace) -> int:
    """Serve until interrupted. Raises UserError where there is no such run, or where the port is taken."""
    from serve.view_pages import server_of

    run = latest_run(RUNS) if args.run is None else args.run
    check_run(run)
    with server_of(run, HOST, args.port) as server:
        address = f"http://{HOST}:{server.server_port}/"
        print(address, flush=True)
        say(f"view: {run}, read-only. Stop it with Ctrl-C.")
        for number in (signal.SIGINT, signal.SIGTERM):  # also where the shell lets its background jobs ignore them
            signal.signal(number, signal.default_int_handler)
        if args.open:
            webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


def latest_run(folder: Path) -> Path:
    """The run below `folder` in which a job has begun or finished last. Raises UserError where there is none."""
    from evaluation.reporting.progress import last_change

    times = {run: time for run in folder.glob("*/") if (time := last_change(run)) is not None}
    if not times:
        raise UserError(
            f"No run found below {folder.absolute()}. Give the run folder: `inverdict view RUN`.", code="missing_run"
        )
    return max(times, key=lambda run: times[run])


def check_run(run: Path) -> None:
    """Raises UserError where the folder is not that of a run that has begun."""
    from evaluation.reporting.progress import progress

    if run.is_file():
        raise UserError(
            f"{run} is a file. Give the run folder, which is the key `run` of the configuration.", code="not_a_folder"
        )
    if not run.is_dir():
        raise UserError(f"Run folder not found: {run}.", code="missing_run")
    if not progress(run)["jobs"]:
        raise UserError(f"{run} has no output of a job. Start one, or give another run folder.", code="empty_run")
