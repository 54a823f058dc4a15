"""`inverdict submit JOB CONFIG --address http://HEAD:8265`: the same command, run on a Ray cluster by its job server.

Thin over Ray's job client. The current folder travels with the job, without what does not belong in it; the results go
to the configuration's `run`, which every machine of the cluster must see. Knows no job. The token is Ray's own (token
mode): it travels in the request's header alone, never in the command, the runtime environment or the metadata.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.errors import JobFailed, UserError

# Beside what .gitignore and .rayignore name. Keys and settings of a shell have no business in a cluster's store.
EXCLUDES = (
    *(".git", ".venv", "venv", "/runs", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"),
    *(".import_linter_cache", ".env", ".env.*", "auth_token", "*.pem", "*.key"),
)
SECONDS_BETWEEN_LOOKS = 1.0
OURS_TO_HAND_ON = (0, 1, 2, 3)  # exit codes of a job's command
OPTIONS = ("json", "retry_failed", "through_serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict submit`: those of the job itself, and where it is to run."""
    parser.add_argument("job", metavar="JOB", help="a job, or `run` for all of a configuration")
    parser.add_argument("config", type=Path, metavar="CONFIG.yaml", help="below the current folder")
    parser.add_argument("--address", required=True, help="the cluster's job server, such as http://127.0.0.1:8265")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="a.b=v", help="change a key")
    parser.add_argument("--cpus", type=float, default=0.0, help="CPUs that the job's driver takes (default 0)")
    parser.add_argument("--no-follow", action="store_true", help="do not wait for the job: print its id")
    for option in OPTIONS:
        parser.add_argument(f"--{option.replace('_', '-')}", action="store_true", help="as the job itself takes it")


def main(args: argparse.Namespace) -> int:
    """Submit, follow, and return the job's exit code.

    Raises UserError where the configuration cannot run on a cluster, the cluster refuses, or a job of the same run
    directory is under way; JobFailed where the job was stopped or the connection was lost.
    """
    from cluster.config import load
    from cluster.jobs import sections

    _check_job(args)
    run = load(args.config, args.overrides, sections())
    check_shared(run.run)
    entrypoint = shlex.join(_words(args))
    client = connect(args.address)
    with _refusals(args.address):
        known = {str(one.submission_id): str(getattr(one.status, "value", one.status)) for one in client.list_jobs()}
        name = next_id(known, run.run, args.job)
        client.submit_job(
            entrypoint=entrypoint,
            submission_id=name,
            runtime_env={"working_dir": str(Path.cwd()), "excludes": list(EXCLUDES)},
            metadata={"run": str(run.run), "job": args.job},
            entrypoint_num_cpus=args.cpus or None,
        )
    if args.no_follow:
        print(name)
        return 0
    return _followed(client, name, args.address)


def _check_job(args: argparse.Namespace) -> None:
    from cluster.jobs import JOBS, RETRIES

    jobs = ("run", *JOBS)
    if args.job not in jobs:
        raise UserError(f"{args.job!r} is no job: {', '.join(jobs)}")
    if args.retry_failed and args.job not in (*RETRIES, "run"):
        raise UserError(f"--retry-failed: {args.job} cannot ask again; {', '.join(RETRIES)} and run can")
    if args.through_serve and args.job != "evaluate":
        raise UserError("--through-serve belongs to evaluate")


def check_shared(run: Path) -> None:
    """The run directory must outlive the job's copy of the working directory. Raises UserError where it would not."""
    text = str(run)
    if ":/" in text:
        raise UserError(
            f"run: {text} is no folder: give the absolute path of a folder on a file system that every machine of the "
            "cluster mounts (object stores through a mount)"
        )
    if not run.is_absolute():
        raise UserError(
            f"run: {text} is relative and would be lost with the job's copy of this folder: give an absolute path that "
            "every machine of the cluster mounts (--set run=/shared/...)"
        )


def _words(args: argparse.Namespace) -> list[str]:
    """The job's command on the cluster, where the configuration lies in the copy of this folder."""
    try:
        config = args.config.resolve().relative_to(Path.cwd().resolve())
    except ValueError as error:
        raise UserError(
            f"{args.config} lies outside of the current folder, which is all that travels with the job: submit from a "
            "folder that holds it"
        ) from error
    flags = [f"--{option.replace('_', '-')}" for option in OPTIONS if getattr(args, option)]
    changes = [word for override in (*args.overrides, "ray.address=auto") for word in ("--set", override)]
    return ["python", "-m", "cluster", args.job, config.as_posix(), *changes, *flags]


def next_id(known: dict[str, str], run: Path, job: str) -> str:
    """The submission id of this job's next attempt on that run directory: two that submit at once get the same one,
    and the cluster refuses the second.

    `known`: the cluster's jobs, submission id -> status. Raises UserError where one works in the run directory.
    """
    stem = f"inverdict-{hashlib.sha256(os.path.normpath(run).encode()).hexdigest()[:10]}-"
    for name, status in known.items():
        if name.startswith(stem) and status in ("PENDING", "RUNNING"):
            raise UserError(
                f"{name} is at work in {run} already: watch it with `ray job logs -f {name}`, end it with "
                f"`ray job stop {name}`, or choose another `run`"
            )
    tried = [int(name.rsplit("-", 1)[1]) for name in known if name.startswith(f"{stem}{job}-")]
    return f"{stem}{job}-{max(tried, default=0) + 1}"


def connect(address: str) -> Any:
    """Ray's job client for the job server at `address` (http or https). Raises UserError where none answers there."""
    where = urlsplit(address)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise UserError(
            f"--address {address}: give the URL of the cluster's job server (its dashboard), such as "
            "http://127.0.0.1:8265"
        )
    if where.username or where.password:
        raise UserError("--address holds a password: Ray's token goes into the file that RAY_AUTH_TOKEN_PATH names")
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if given and "RAY_AUTH_MODE" not in os.environ:
        # Ray's client sends a token in token mode alone. One that merely lies in ~/.ray/auth_token was made for
        # another cluster as likely as for this one: it is sent where RAY_AUTH_MODE=token asks for it.
        os.environ["RAY_AUTH_MODE"] = "token"
    from ray.job_submission import JobSubmissionClient

    with _refusals(address), _own_address():
        return JobSubmissionClient(address)


@contextmanager
def _own_address() -> Iterator[None]:
    """Ray lets these variables win over the address that was asked for."""
    kept = {name: os.environ.pop(name) for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextmanager
def _refusals(address: str) -> Iterator[None]:
    """What a job server refuses, as one sentence."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        if "Authentication required" in str(error):
            raise UserError(
                f"the cluster at {address} asks for a token: set RAY_AUTH_MODE=token, with the token in the file that "
                "RAY_AUTH_TOKEN_PATH names or in ~/.ray/auth_token"
            ) from error
        raise UserError(
            f"the cluster at {address} refuses the token: take the head's own (RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token)"
        ) from error
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise UserError(f"no job server answers at {address}: start the cluster, or correct --address") from error
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(
            f"the cluster at {address} does not take the job: {(said or ['no reason'])[-1][:300]}"
        ) from error


def _followed(client: Any, name: str, address: str) -> int:
    """The job's log on stdout as it comes, then its exit code."""
    from cluster.terminal import say

    say(f"submit: {name} runs at {address}; Ctrl-C only stops watching")
    try:
        info = asyncio.run(_watch(client, name))
    except KeyboardInterrupt:
        say(f"submit: the job goes on: `ray job logs -f {name}` watches it, `ray job stop {name}` ends it")
        return 130
    status = str(getattr(info.status, "value", info.status))
    code = 0 if status == "SUCCEEDED" else info.driver_exit_code
    if status != "STOPPED" and code in OURS_TO_HAND_ON:
        return int(code)
    why = (info.message or "no reason told").splitlines()[0][:200]
    raise JobFailed(f"{name} ended as {status} ({why}): the same command goes on from what is done")


async def _watch(client: Any, name: str) -> Any:
    """Print the log until the job has ended, and give back what the cluster knows of it."""
    import aiohttp
    import requests

    try:
        async for text in client.tail_job_logs(name):
            print(text, end="", flush=True)
    except (RuntimeError, aiohttp.ClientError):
        pass  # the log broke off; the state below tells whether the job did
    lost = 0
    while True:
        try:
            info = await asyncio.to_thread(client.get_job_info, name)
        except (requests.exceptions.RequestException, RuntimeError) as error:
            lost += 1
            if lost > 10:
                raise JobFailed(
                    f"the connection to the cluster is lost; {name} may go on: look with `ray job status {name}`"
                ) from error
        else:
            lost = 0
            if info.status.is_terminal():
                return info
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
