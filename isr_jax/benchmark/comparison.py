"""The tables of a suite, as papers have them: methods side by side, and how sure their differences are."""

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from isr_jax.benchmark.report import align, published_rows
from isr_jax.benchmark.rows import Row, group_rows
from isr_jax.benchmark.significance import CONFIDENCE, RESAMPLES, Difference, paired_difference
from isr_jax.pictures.measures import Measure

ABSENT = "–"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A method beside the baseline, on one set, by one measure."""

    row: Row
    baseline: Row
    measure: Measure
    difference: Difference | None
    """None where a picture has no score, or an infinite one."""

    def as_dict(self) -> dict[str, Any]:
        """Returns it as JSON stores it."""
        named = {"name": self.row.label, "baseline": self.baseline.label, "measure": self.measure.name}
        where = {"dataset": self.row.dataset, "scale": self.row.scale, "degradation": self.row.degradation}
        found = self.difference
        figures = {name: None if found is None else getattr(found, name) for name in ("mean", "low", "high")}
        return {**named, **where, **figures}

    def __str__(self) -> str:
        """Spells the mean with its sign and the interval, with the digits of the measure."""
        if self.difference is None:
            return ABSENT
        digits = self.measure.digits
        mean, low, high = (f"{value:+.{digits}f}" for value in asdict(self.difference).values())
        return f"{mean} [{low}, {high}]"


def compare_rows(rows: Sequence[Row], baseline: str) -> list[Compared]:
    """Compares the rows of each set with that of the baseline, where it has one there, by all of their measures."""
    compared = []
    for group in group_rows(rows):
        for base in (row for row in group if row.label == baseline):
            for row in group:
                if row is not base:
                    compared += [_compare(row, base, measure) for measure in row.measures]
    return compared


def _compare(row: Row, baseline: Row, measure: Measure) -> Compared:
    pairs = [
        (one.values[measure.name], other.values[measure.name])
        for one, other in zip(row.images, baseline.images, strict=True)
    ]
    known = [(a, b) for a, b in pairs if a is not None and b is not None and math.isfinite(a) and math.isfinite(b)]
    whole = len(known) == len(pairs)
    difference = paired_difference([a for a, _ in known], [b for _, b in known]) if whole else None
    return Compared(row=row, baseline=baseline, measure=measure, difference=difference)


def side_by_side(rows: Sequence[Row]) -> list[list[str]]:
    """Returns a line for each set and scale, a column for each method and for what the paper publishes."""
    lines = [["set", "scale", *_columns(rows)]]
    for group in group_rows(rows):
        lines.append([group[0].place, f"x{group[0].scale}", *(" / ".join(cells) for cells in _cells(rows, group))])
    return lines


def differences(compared: Sequence[Compared]) -> list[list[str]]:
    """Returns a line for each set, scale and measure, a column for each method but the baseline; or nothing."""
    methods = list(dict.fromkeys(each.row.label for each in compared))
    lines: dict[tuple[str, str, str], dict[str, str]] = {}
    for each in compared:
        key = (each.row.place, f"x{each.row.scale}", each.measure.title)
        lines.setdefault(key, {})[each.row.label] = str(each)
    body = [[*key, *(cells.get(method, ABSENT) for method in methods)] for key, cells in lines.items()]
    return [["set", "scale", "measure", *methods], *body] if body else []


def sentence_of_differences(baseline: str) -> str:
    """Returns how the differences were taken, in words."""
    return (
        f"Differences are to {baseline}, with their {CONFIDENCE:.0%} interval of the paired bootstrap over pictures"
        f" ({RESAMPLES:,} resamples); of few pictures it is too narrow."
    )


def format_markdown(title: str, rows: Sequence[Row], compared: Sequence[Compared], notes: Sequence[str]) -> str:
    """Returns both tables in Markdown, aligned."""
    parts = [f"# {title}", f"{_titles(rows)}:", align(side_by_side(rows))]
    if lines := differences(compared):
        parts += [f"## Differences to {compared[0].baseline.label}", align(lines)]
    return "\n\n".join([*parts, *notes]) + "\n"


def format_latex(title: str, rows: Sequence[Row], compared: Sequence[Compared], notes: Sequence[str]) -> str:
    r"""Returns both tables as LaTeX (\usepackage{booktabs}), the best of each line in bold."""
    lines = side_by_side(rows)
    for line, group in zip(lines[1:], group_rows(rows), strict=True):
        line[2:] = _in_bold(_cells(rows, group), group[0].measures)
    body = [[_escape(cell) for cell in lines[0]], *([*map(_escape, line[:2]), *line[2:]] for line in lines[1:])]
    parts = [f"% {title}: {_titles(rows)}. Needs booktabs.", *(f"% {note}" for note in notes), _tabular(body, 2)]
    if lines := differences(compared):
        parts.append(_tabular([[_escape(cell) for cell in line] for line in lines], 3))
    return "\n".join(parts) + "\n"


def _titles(rows: Sequence[Row]) -> str:
    return " / ".join(measure.title for measure in rows[0].measures)


def _columns(rows: Sequence[Row]) -> list[str]:
    """Returns the methods, and behind them the paper's, which no row is of."""
    return list(dict.fromkeys([row.label for row in rows] + [name for row in rows for name in published_rows(row)]))


def _cells(rows: Sequence[Row], group: Sequence[Row]) -> list[list[str]]:
    """Returns the figures of a set as they are printed: of each column, one for each measure."""
    measures, cells = group[0].measures, {}
    for row in group:
        means = [(row.mean(measure.name), measure.digits) for measure in measures]
        cells[row.label] = [ABSENT if mean is None else f"{mean:.{digits}f}" for mean, digits in means]
    for name, figures in published_rows(group[0]).items():
        cells[name] = [figures.get(measure.name, ABSENT) for measure in measures]
    return [cells.get(column, [ABSENT]) for column in _columns(rows)]


def _in_bold(cells: list[list[str]], measures: Sequence[Measure]) -> list[str]:
    """Joins the figures of each column; the best of each measure, as printed, is bold."""
    best = []
    for index, measure in enumerate(measures):
        values = [float(cell[index]) for cell in cells if len(cell) > index and cell[index] != ABSENT]
        best.append((max if measure.higher_is_better else min)(values, default=None))

    def figure(text: str, index: int) -> str:
        text = text.replace(ABSENT, "--").replace("inf", r"$\infty$") if not re.match(r"-?\d", text) else text
        return rf"\textbf{{{text}}}" if re.match(r"-?\d", text) and float(text) == best[index] else text

    return [" / ".join(figure(text, index) for index, text in enumerate(cell)) for cell in cells]


def _tabular(lines: Sequence[Sequence[str]], labels: int) -> str:
    """Returns a table whose first columns are labels, and of which the first line is the head."""
    head, *body = (" & ".join(line) + r" \\" for line in lines)
    kinds = "l" * labels + "c" * (len(lines[0]) - labels)
    rules = [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
    return "\n".join(rules)


def _escape(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ABSENT: "--"}
    return "".join(special.get(c, rf"\{c}" if c in "&%$#_{}" else c) for c in text)
