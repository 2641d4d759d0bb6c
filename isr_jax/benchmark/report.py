"""How a benchmark is told: a table in Markdown, JSON, CSV, and one self-contained page with every picture in it."""

import base64
import csv
import html
import io
import json
import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from isr_jax.benchmark.benchmark import LR, TRUTH
from isr_jax.benchmark.rows import Benchmark, Row, group_rows
from isr_jax.benchmark.web import html_table, render
from isr_jax.files import replace_file
from isr_jax.pictures.encoding import encode_image
from isr_jax.pictures.metrics import PROTOCOL
from isr_jax.pictures.picture import Picture
from isr_jax.pictures.published import PAPER

_COSTS = ("num_stages", "parameters", "macs_per_pixel", "seconds", "peak_bytes", "compilations", "cache_hits")
_PROVENANCE = ("border", *PROTOCOL, "lr_source", "degradation", "told", "data_sha256", "sentinel_ok")


def name_unmeasured(rows: Iterable[Row]) -> None:
    """Says on standard error which pictures leave a set without the average of a measure."""
    missing: dict[tuple[str, ...], dict[str, None]] = {}
    for row in rows:
        for measure in row.measures:
            without = [scores.name for scores in row.images if scores.values[measure.name] is None]
            if 0 < len(without) < len(row.images):
                missing.setdefault((row.dataset, *without), {})[measure.name] = None
    for (dataset, *without), measures in missing.items():
        pictures = ", ".join(without[:5]) + (f" and {len(without) - 5} more" if len(without) > 5 else "")
        print(f"isr-jax: {dataset}: no {', '.join(measures)}, which cannot be taken of {pictures}", file=sys.stderr)


def format_table(rows: Sequence[Row]) -> str:
    """Returns the rows as a table in Markdown, aligned so that it also reads well in a terminal."""
    lines = [["dataset", "scale", "model", *_titles(rows), "parameters", "MAC/pixel", "MiB", "s"]]
    for row in rows:
        cost = row.cost
        memory = f"{cost.peak_bytes / 2**20:.0f}" if cost.peak_bytes else "-"
        costs = [f"{cost.parameters:,}", f"{cost.macs_per_pixel:,.0f}", memory, f"{cost.seconds:.1f}"]
        lines.append([row.dataset, f"x{row.scale}", row.label, *_figures(row, "-"), *costs])
    tables = [align(lines)]
    for row in rows:
        if means := row.stages():
            head = [f"{row.model} on {row.dataset} x{row.scale}, stage", *map(str, range(1, len(means) + 1))]
            tables.append(align([head, ["PSNR-Y", *(f"{mean:.2f}" for mean in means)]]))
    return "\n\n".join([*tables, *degradations(rows)])


def format_json(benchmark: Benchmark) -> str:
    """Returns all rows, every picture included, as JSON: {"rows": [...], "bicubic": [...]}; infinities are null."""
    return json.dumps(benchmark.as_dict(), indent=1, allow_nan=False) + "\n"


def format_csv(rows: Sequence[Row]) -> str:
    """Returns one line per picture and one for each average (image "mean"), each with the protocol; infinity is inf."""
    stream = io.StringIO()
    measures = [measure.name for measure in rows[0].measures] if rows else []
    columns = ("model", "ensemble", "dataset", "scale", "image", *measures, *_COSTS, *_PROVENANCE)
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        average = row.as_dict(infinite=math.inf)
        for image in [*average["images"], {"name": "mean"}]:
            writer.writerow({**average, "image": image["name"], **image})
    return stream.getvalue()


class Report:
    """Gathers pictures while they are made, and writes the page at the end."""

    def __init__(self) -> None:
        self._images: dict[tuple[str, int, str], dict[str, str]] = {}
        self._sizes: dict[tuple[str, int, str], tuple[int, int]] = {}

    def add(
        self, dataset: str, scale: int, name: str, label: str, pixels: UInt8[np.ndarray, "height width channels"]
    ) -> None:
        """Adds a version of a picture: `LR`, `TRUTH`, or the label of what made it. It is kept without loss."""
        self.add_file(dataset, scale, name, label, encode_image(Picture(pixels=pixels), "WEBP", quality=100))
        if label == TRUTH:
            self._sizes[dataset, scale, name] = pixels.shape[1], pixels.shape[0]

    def add_file(self, dataset: str, scale: int, name: str, label: str, data: bytes) -> None:
        """Adds a version of a picture as the content of a PNG or WebP file."""
        self._images.setdefault((dataset, scale, name), {})[label] = base64.b64encode(data).decode()

    def write(
        self,
        path: Path,
        rows: Sequence[Row],
        *,
        title: str = "Super-resolution: scores and pictures",
        extra: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        """Writes the page, beside and then renamed; the order of the rows is that of the tables.

        Pictures are told apart by the first of the measures.

        Args:
          path: The page.
          rows: Those of one set lie together.
          title: Its heading.
          extra: HTML of further tables.
          notes: Sentences below the tables.
        """
        measure = rows[0].measures[0]
        scores: dict[tuple[str, int, str], dict[str, float | None]] = {key: {} for key in self._images}
        for row in rows:
            for image in row.images:
                value = image.values[measure.name]
                if value is not None:  # a page has no infinity: it is null
                    finite = value if math.isfinite(value) else None
                    scores.setdefault((row.place, row.scale, image.name), {})[row.label] = finite
        labels = [LR, *dict.fromkeys(row.label for row in rows), TRUTH]
        pictures = [
            {
                "dataset": key[0],
                "scale": key[1],
                "name": key[2],
                "width": self._sizes[key][0],
                "height": self._sizes[key][1],
                "images": images,
                "scores": scores[key],
            }
            for key, images in self._images.items()
        ]
        page = render(
            "report.html",
            data={"labels": labels, "pictures": pictures, "digits": measure.digits, "measure": measure.title},
            tables="".join(map(_table, group_rows(rows))) + extra,
            protocol=html.escape(" ".join([_PROTOCOL, *about(rows), *degradations(rows), *notes])),
            title=html.escape(title),
        )
        replace_file(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))


def degradations(rows: Sequence[Row]) -> list[str]:
    """Returns a sentence on what made the LR pictures, if that was not the protocol, and who was told."""
    told = {row.label: row.told for row in rows if row.told}
    who = "; ".join(f"{label} is told the {what}" for label, what in told.items()) or "no model is told"
    made = dict.fromkeys(row.degradation for row in rows if row.degradation)
    return [f"LR pictures are made by {degradation}; {who}." for degradation in made]


_PROTOCOL = (
    f"Colour space: {PROTOCOL['colour_space']}. Rounding: {PROTOCOL['rounding']}."
    f" SSIM window: {PROTOCOL['ssim_window']}. A border of as many pixels as the scale is left out."
)


def about(rows: Sequence[Row]) -> list[str]:
    """Returns what is to be known of the measures that the protocol's own sentences do not tell."""
    told = ("psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb")
    return [f"{m.title}: {m.about}." for m in rows[0].measures if m.about and m.name not in told]


def _table(rows: Sequence[Row]) -> str:
    """Returns the table of one set."""
    lines = [["model", *_titles(rows), "parameters", "MAC/pixel", "seconds"]]
    for row in rows:
        costs = [f"{row.cost.parameters:,}", f"{row.cost.macs_per_pixel:,.0f}", f"{row.cost.seconds:.1f}"]
        lines.append([row.label, *_figures(row, "–"), *costs])
    paper = published_rows(rows[0])
    for name, figures in paper.items():
        cells = (figures.get(measure.name, "–") for measure in rows[0].measures)
        lines.append([name, *cells, "–", "–", "–"])
    classes = [""] * len(rows) + ["paper"] * len(paper)
    return f"<section><h2>{html.escape(rows[0].place)} x{rows[0].scale}</h2>{html_table(lines, classes)}</section>"


def published_rows(row: Row) -> dict[str, dict[str, str]]:
    """Returns what the paper publishes on a row's pictures, as it is printed, by the name of the measure."""
    figures = () if row.degradation else PAPER.get((row.dataset, row.scale), ())
    names = ("ISRResCNet (paper)", "ISRResCNet+ (paper)")
    return {name: {"psnr_y": f"{p:.2f}", "ssim_y": f"{s:.4f}"} for name, (p, s) in zip(names, figures, strict=False)}


def _titles(rows: Sequence[Row]) -> list[str]:
    return [measure.title for measure in rows[0].measures] if rows else []


def _figures(row: Row, absent: str) -> list[str]:
    """The averages of a row as they are printed."""
    means = [(row.mean(measure.name), measure.digits) for measure in row.measures]
    return [absent if mean is None else f"{mean:.{digits}f}" for mean, digits in means]


def align(lines: list[list[str]]) -> str:
    """Returns a table in Markdown whose columns are aligned; the first line is its head."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    number = [all(cell[:1] in "0123456789-i" for cell in column[1:]) for column in zip(*lines, strict=True)]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, number, strict=True)]

    def line(cells: list[str]) -> str:
        padded = [c.rjust(w) if right else c.ljust(w) for c, w, right in zip(cells, widths, number, strict=True)]
        return f"| {' | '.join(padded)} |"

    return "\n".join([line(lines[0]), line(rule), *map(line, lines[1:])])
