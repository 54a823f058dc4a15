"""`deploy/screenshot.sh` with a browser that is a script: paths of any kind, and no success without a picture."""

import os
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "screenshot.sh"
BROWSER = """#!/bin/sh
for one; do case $one in --screenshot=*) to=${one#*=};; esac; done
[ -e "$DRAWS" ] && printf %s "$one" > "$to"
exit 0
"""


@pytest.mark.parametrize("draws", [True, False])
def test_a_picture_or_an_error(tmp_path: Path, draws: bool) -> None:
    (tmp_path / "chromium").write_text(BROWSER)
    (tmp_path / "chromium").chmod(0o755)
    page, picture = tmp_path / "x #y?%41ä" / "page.html", tmp_path / "page.png"
    page.parent.mkdir()
    page.write_text("<h1>Page</h1>")
    picture.write_text("an earlier one")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DRAWS": str(page) if draws else ""}
    done = subprocess.run([SCRIPT, page, picture], env=environment, capture_output=True, text=True, check=False)
    if draws:
        assert (done.returncode, done.stdout) == (0, f"{picture}\n")
        address = picture.read_text()
        assert unquote(address) == f"file://{page}" and set("#? ").isdisjoint(address)
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert "made no picture" in done.stderr and picture.read_text() == "an earlier one"
