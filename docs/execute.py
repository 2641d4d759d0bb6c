"""Executes a page that is stored as a Python file of cells, and writes it beside itself as Markdown, with its pictures.

    python docs/execute.py docs/course/solver.py

A cell that fails ends the build, a command of the shell, too. The page runs in a folder of its own, so that nothing it
writes stays. A cell that draws says in its `alt` what is to be seen.
"""

import logging
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
CELL_SECONDS = 900


def main(page: Path) -> None:
    """Executes one page."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    notebook = jupytext.read(page)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=CELL_SECONDS, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # progress is no part of a page
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    config = Config({"TagRemovePreprocessor": {"enabled": True, "remove_input_tags": ["hide-input"]}})
    config.CoalesceStreamsPreprocessor.enabled = True  # a text that came in pieces
    text, resources = MarkdownExporter(config=config).from_notebook_node(
        notebook, {"output_files_dir": f"{page.stem}_files", "unique_key": page.stem}
    )

    def picture(found: re.Match[str]) -> str:
        return f"![{notebook.cells[int(found[2])].metadata['alt']}]({found[1]})"

    text = re.sub(r"!\[png\]\(([^)]*?_(\d+)_\d+\.png)\)", picture, text)
    text = re.sub(r"```\w+\n%%bash\n", "```bash\n", text)
    text = re.sub(r"\n{3,}", "\n\n", text)
    shutil.rmtree(page.parent / f"{page.stem}_files", ignore_errors=True)
    for name, data in resources["outputs"].items():
        (page.parent / name).parent.mkdir(exist_ok=True)
        (page.parent / name).write_bytes(data)
    page.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    for argument in sys.argv[1:]:
        main(Path(argument))
