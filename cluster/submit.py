"""`inverdict submit JOB CONFIG --address http://HEAD:8265`: run a command on a Ray cluster through its job server.

A thin layer over Ray's job client. The working directory is uploaded with the job, without the excluded files; results
go to the configuration's `run`, a folder that every node of the cluster mounts, or an address of an object store. The
token is Ray's own (token mode): it is sent in the request's header only, never in the command, the runtime environment
or the metadata.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.errors import JobFailed, UserError
from cluster.object_store import shown
from cluster.run_store import address_of

# In addition to .gitignore and .rayignore. A shell's keys and settings must not be uploaded to a cluster.
EXCLUDES = (
    *(".git", ".venv", "venv", "/runs", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"),
    *(".import_linter_cache", ".env", ".env.*", "auth_token", "*.pem", "*.key"),
)
SECONDS_BETWEEN_LOOKS = 1.0
AGENT_S = 60.0  # how long a new head may take until its agent accepts jobs
OURS_TO_HAND_ON = (0, 1, 2, 3)  # exit codes of a job's command
OPTIONS = ("json", "retry_failed", "through_serve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `inverdict submit`: those of the job itself, and the cluster."""
    parser.add_argument("job", metavar="JOB", help="job to run, or `run` for all jobs of the configuration")
    parser.add_argument(
        "config", type=Path, metavar="CONFIG.yaml", help="configuration file, in the working directory or below"
    )
    parser.add_argument(
        "--address", required=True, help="URL of the cluster's job server, such as http://127.0.0.1:8265"
    )
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="a.b=v", help="override a configuration key"
    )
    parser.add_argument("--cpus", type=float, default=0.0, help="CPUs reserved for the job's driver (default: 0)")
    parser.add_argument("--no-follow", action="store_true", help="print the job's id and return without waiting for it")
    for option in OPTIONS:
        parser.add_argument(f"--{option.replace('_', '-')}", action="store_true", help="option of the job")


def main(args: argparse.Namespace) -> int:
    """Submit the job, follow its log, and return its exit code.

    Raises UserError if the configuration cannot run on a cluster, the cluster rejects the job, or a job of the same run
    directory is running; JobFailed if the job was stopped or the connection was lost.
    """
    from cluster.config import load
    from cluster.jobs import sections

    _check_job(args)
    run = load(args.config, args.overrides, sections())
    address = address_of(run.run)
    if address is None:
        check_shared(run.run)
    place = shown(address) if address else str(run.run)
    entrypoint = shlex.join(_command(args))
    client = connect(args.address)
    with _refusals(args.address):
        known = {str(one.submission_id): str(getattr(one.status, "value", one.status)) for one in client.list_jobs()}
        name = next_id(known, Path(place), args.job)
        _submit(
            client,
            entrypoint=entrypoint,
            submission_id=name,
            runtime_env={"working_dir": str(Path.cwd()), "excludes": list(EXCLUDES)},
            metadata={"run": place, "job": args.job},
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
        raise UserError(f"Unknown job {args.job!r}; it must be one of {', '.join(jobs)}.", code="unknown_job")
    if args.retry_failed and args.job not in (*RETRIES, "run"):
        raise UserError(
            f"{args.job} does not support --retry-failed; only run, {', '.join(RETRIES)} do.", code="unsupported"
        )
    if args.through_serve and args.job != "evaluate":
        raise UserError(f"{args.job} does not support --through-serve; only evaluate does.", code="unsupported")


def _submit(client: Any, **job: Any) -> None:
    """Submit; a head that has just started accepts jobs only once its agent is up."""
    deadline = time.monotonic() + AGENT_S
    while True:
        try:
            client.submit_job(**job)
            return
        except RuntimeError as error:
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(1)


def check_shared(run: Path) -> None:
    """The run directory must outlive the job's copy of the working directory. Raises UserError if it would not."""
    text = str(run)
    if ":/" in text:
        raise UserError(
            f"`run` must be a folder or an s3://, gs:// or file:// address, not {text}. Use the absolute path of a "
            "folder on a file system that every node of the cluster mounts.",
            code="invalid_value",
            key="run",
        )
    if not run.is_absolute():
        raise UserError(
            f"`run` must be an absolute path that every node of the cluster mounts (--set run=/shared/...), not "
            f"{text}. Results in the job's copy of the working directory would be lost.",
            code="invalid_value",
            key="run",
        )


def _command(args: argparse.Namespace) -> list[str]:
    """The job's command on the cluster, with the configuration's path in the uploaded working directory."""
    try:
        config = args.config.resolve().relative_to(Path.cwd().resolve())
    except ValueError as error:
        raise UserError(
            f"{args.config} is outside of the working directory, which is all that is uploaded with the job. Submit "
            "from a folder that contains it.",
            code="invalid_value",
        ) from error
    flags = [f"--{option.replace('_', '-')}" for option in OPTIONS if getattr(args, option)]
    changes = [word for override in (*args.overrides, "ray.address=auto") for word in ("--set", override)]
    return ["python", "-m", "cluster", args.job, config.as_posix(), *changes, *flags]


def next_id(known: dict[str, str], run: Path, job: str) -> str:
    """The submission id of this job's next attempt on a run directory.

    Two concurrent submissions get the same id, and the cluster rejects the second.

    Args:
        known: the cluster's jobs, submission id -> status.
        run: the run directory.
        job: the command.

    Raises:
        UserError: a job of this run directory is pending or running.
    """
    stem = f"inverdict-{hashlib.sha256(os.path.normpath(run).encode()).hexdigest()[:10]}-"
    for name, status in known.items():
        if name.startswith(stem) and status in ("PENDING", "RUNNING"):
            raise UserError(
                f"{name} is already using {run}. Follow it with `ray job logs -f {name}`, stop it with "
                f"`ray job stop {name}`, or choose another `run`.",
                code="in_use",
                key="run",
            )
    tried = [int(name.rsplit("-", 1)[1]) for name in known if name.startswith(f"{stem}{job}-")]
    return f"{stem}{job}-{max(tried, default=0) + 1}"


def connect(address: str) -> Any:
    """Ray's job client for the job server at `address` (http or https). Raises UserError if it cannot connect."""
    where = urlsplit(address)
    if where.scheme not in ("http", "https") or not where.hostname:
        raise UserError(
            # Not repeated: it may hold a password.
            "--address must be the URL of the cluster's job server (its dashboard), such as http://127.0.0.1:8265.",
            code="invalid_value",
        )
    if where.username or where.password:
        raise UserError(
            "--address must not contain a password. Put Ray's token into the file that RAY_AUTH_TOKEN_PATH names.",
            code="invalid_value",
        )
    given = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if given and "RAY_AUTH_MODE" not in os.environ:
        # Ray's client sends a token in token mode only. The one in ~/.ray/auth_token may belong to another cluster: it
        # is sent only if RAY_AUTH_MODE=token is set explicitly.
        os.environ["RAY_AUTH_MODE"] = "token"
    from ray.job_submission import JobSubmissionClient

    with _refusals(address), _own_address():
        return JobSubmissionClient(address)


@contextmanager
def _own_address() -> Iterator[None]:
    """Ray prefers these variables over the address passed to its client."""
    kept = {name: os.environ.pop(name) for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextmanager
def _refusals(address: str) -> Iterator[None]:
    """Convert the errors of Ray's job client."""
    import requests
    from ray.exceptions import AuthenticationError

    try:
        yield
    except AuthenticationError as error:
        if "Authentication required" in str(error):
            raise UserError(
                f"The cluster at {address} requires a token. Set RAY_AUTH_MODE=token, with the token in the file that "
                "RAY_AUTH_TOKEN_PATH names or in ~/.ray/auth_token.",
                code="missing_token",
            ) from error
        raise UserError(
            f"The cluster at {address} rejects the token. Use the head's own (RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token).",
            code="invalid_token",
        ) from error
    except (ConnectionError, requests.exceptions.RequestException) as error:
        raise UserError(
            f"No job server found at {address}. Start the cluster, or correct --address.", code="no_cluster"
        ) from error
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(
            f"The cluster at {address} rejects the job: {(lines or ['no reason given'])[-1][:300]}", code="job_rejected"
        ) from error


def _followed(client: Any, name: str, address: str) -> int:
    """Print the job's log on stdout as it arrives, and return its exit code."""
    from cluster.terminal import say

    say(f"submit: {name} runs at {address}; Ctrl-C stops following it, not the job")
    try:
        info = asyncio.run(_watch(client, name))
    except KeyboardInterrupt:
        say(f"submit: the job continues; follow it with `ray job logs -f {name}`, stop it with `ray job stop {name}`")
        return 130
    status = str(getattr(info.status, "value", info.status))
    code = 0 if status == "SUCCEEDED" else info.driver_exit_code
    if status != "STOPPED" and code in OURS_TO_HAND_ON:
        return int(code)
    why = (info.message or "no reason given").splitlines()[0][:200]
    raise JobFailed(f"{name} ended as {status} ({why}). The same command resumes it.", code="job_failed")


async def _watch(client: Any, name: str) -> Any:
    """Print the log until the job has ended, and return the cluster's information about it."""
    import aiohttp
    import requests

    try:
        async for text in client.tail_job_logs(name):
            print(text, end="", flush=True)
    except (RuntimeError, aiohttp.ClientError):
        pass  # the log was interrupted; the status below says whether the job was
    lost = 0
    while True:
        try:
            info = await asyncio.to_thread(client.get_job_info, name)
        except (requests.exceptions.RequestException, RuntimeError) as error:
            lost += 1
            if lost > 10:
                raise JobFailed(
                    f"The connection to the cluster was lost, {name} may still be running. Check it with "
                    f"`ray job status {name}`.",
                    code="connection_lost",
                ) from error
        else:
            lost = 0
            if info.status.is_terminal():
                return info
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
