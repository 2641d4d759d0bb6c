"""Runs a suite and writes what it says: tables for people, papers and programs, and the page of all pictures."""

import html
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from isr_jax.benchmark.benchmark import LR, TRUTH, check_sentinel
from isr_jax.benchmark.comparison import (
    Compared,
    compare_rows,
    differences,
    format_latex,
    format_markdown,
    sentence_of_differences,
)
from isr_jax.benchmark.report import Report, about, degradations
from isr_jax.benchmark.rows import Row
from isr_jax.benchmark.significance import CONFIDENCE, RESAMPLES
from isr_jax.benchmark.suite import Case, Suite
from isr_jax.benchmark.web import html_table
from isr_jax.config.suite import BICUBIC
from isr_jax.files import replace_file
from isr_jax.pictures.metrics import round_to
from isr_jax.pictures.pairs import read_pixels
from isr_jax.progress import Progress

PAGE_BYTES = 100_000_000
"""Most that the results may take for the page to hold them; else it has the tables alone."""


@dataclass(frozen=True, kw_only=True)
class SuiteResult:
    """What a suite has scored."""

    rows: tuple[Row, ...]
    """Of each method on each set, set by set."""
    compared: tuple[Compared, ...]
    """Of each row with that of the baseline."""
    computed: int
    """How many results were not kept from before."""


def run_suite(suite: Suite, *, quiet: bool = False) -> SuiteResult:
    """Scores what is not kept, and writes the tables after each set, at the end the page.

    Args:
      suite: What to score.
      quiet: Say nothing of the progress on standard error.
    Raises:
      UserError: If a picture cannot be read, or an output does not match.
      OSError: If something cannot be written.
    """
    page, tables = suite.output / "index.html", suite.output / "results.json"
    before = tables.read_bytes() if tables.exists() and page.exists() else b""
    rows: list[Row] = []
    compared: list[Compared] = []
    computed = 0
    progress = Progress(total=len(suite.cases), quiet=quiet, part="picture")
    try:
        for case in suite.cases:
            found, anew = _score_case(suite, case, progress)
            rows, computed = rows + found, computed + anew
            compared += compare_rows(found, suite.baseline)
            _write_tables(suite, rows, compared)
    except BaseException:  # an interrupt, too, is said in a line of its own
        progress.clear()
        raise
    result = SuiteResult(rows=tuple(rows), compared=tuple(compared), computed=computed)
    if computed or tables.read_bytes() != before:
        _write_page(suite, page, result)
    return result


def _score_case(suite: Suite, case: Case, progress: Progress) -> tuple[list[Row], int]:
    """Scores all methods on a case; returns their rows, and how many pictures were not kept."""
    progress.begin(str(case))
    methods, rows, anew, done = suite.methods_of(case), [], 0, itertools.count(1)
    total = len(methods) * len(case.files)
    for method in methods:
        row, fresh = suite.score(method, case, lambda: progress.within(next(done), total))
        if method.model == BICUBIC and case.degradation is None:
            progress.clear()
            row = check_sentinel(row)
        rows.append(row)
        anew += fresh
    progress.end(_summary(rows), f"{anew} of {total} pictures scored anew")
    return rows, anew


def _summary(rows: Sequence[Row]) -> str:
    """Returns the first measure of each method."""
    measure = rows[0].measures[0]
    means = [(row.label, row.mean(measure.name)) for row in rows]
    figures = (f"{label} {'–' if mean is None else f'{mean:.{measure.digits}f}'}" for label, mean in means)
    return f"{measure.title} {', '.join(figures)}"


def _notes(suite: Suite, rows: Sequence[Row], compared: Sequence[Compared]) -> list[str]:
    return [*degradations(rows), *([sentence_of_differences(suite.baseline)] if compared else [])]


def _write_tables(suite: Suite, rows: Sequence[Row], compared: Sequence[Compared]) -> None:
    title, notes = suite.config.title, [*about(rows), *_notes(suite, rows, compared)]
    found = {
        "title": title,
        "rows": [row.as_dict() for row in rows],
        "differences": {
            "baseline": suite.baseline,
            "confidence": CONFIDENCE,
            "resamples": RESAMPLES,
            "of": [each.as_dict() for each in compared],
        },
    }
    texts = {
        "results.json": json.dumps(found, indent=1, allow_nan=False) + "\n",
        "results.md": format_markdown(title, rows, compared, notes),
        "results.tex": format_latex(title, rows, compared, notes),
    }
    for name, text in texts.items():
        _write(suite.output / name, text)


def _write(path: Path, text: str) -> None:
    replace_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _write_page(suite: Suite, path: Path, result: SuiteResult) -> None:
    report = Report()
    shown = [(method, case) for case in suite.cases for method in suite.methods_of(case)]
    paths = [suite.result(method, case, files.hr.stem) for method, case in shown for files in case.files]
    sizes = [path.stat().st_size if path.is_file() else PAGE_BYTES + 1 for path in paths]
    notes = _notes(suite, result.rows, result.compared)
    if sum(sizes) <= PAGE_BYTES:
        for case in suite.cases:
            for pair in map(case.read, case.files):
                report.add(case.name, case.scale, pair.name, LR, round_to(pair.lr, np.uint8))
                report.add(case.name, case.scale, pair.name, TRUTH, pair.hr)
                for method in suite.methods_of(case):
                    file, named = suite.result(method, case, pair.name), (case.name, case.scale, pair.name, method.name)
                    if file.suffix.lower() == ".png":
                        report.add_file(*named, file.read_bytes())
                    else:
                        report.add(*named, read_pixels(file))
    else:
        notes.append("The pictures are too many for a page, or were not kept: here are the tables alone.")
    lines, extra = differences(result.compared), ""
    if lines:
        table = html_table(lines, [""] * (len(lines) - 1))
        extra = f"<section><h2>Differences to {html.escape(suite.baseline)}</h2>{table}</section>"
    report.write(path, result.rows, title=suite.config.title, extra=extra, notes=notes)
