"""The notebooks of the documentation: each runs from its first cell to its last, and shows its pictures."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTEBOOKS = [DOCS / "start.py", *sorted(DOCS.glob("course/*.py"))]


@pytest.mark.slow  # `make docs` runs them, too
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(notebook, tmp_path):
    pytest.importorskip("jupytext", reason="the docs extra is not installed: make docs")
    page = Path(shutil.copy(notebook, tmp_path))
    run = [sys.executable, DOCS / "execute.py", page]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    pictures = re.findall(r"!\[[^\]]+\]\((\S+\.png)\)", page.with_suffix(".md").read_text())
    assert pictures
    assert all((tmp_path / picture).stat().st_size for picture in pictures)
