"""One self-contained page of an evaluation: tables beside the paper's figures, and every picture to look at."""

import base64
import html
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from isr_jax.benchmark.web import html_table, render
from isr_jax.files import replace_file
from isr_jax.pictures.images import encode_image
from isr_jax.pictures.picture import Picture

PAPER = {
    ("Set5", 2): ((37.67, 0.9596), (37.79, 0.9600)),
    ("Set5", 3): ((34.08, 0.9251), (34.20, 0.9258)),
    ("Set5", 4): ((31.63, 0.8890), (31.77, 0.8908)),
    ("Set14", 2): ((32.89, 0.9144), (33.06, 0.9155)),
    ("Set14", 3): ((29.63, 0.8365), (29.76, 0.8381)),
    ("Set14", 4): ((27.99, 0.7757), (28.08, 0.7776)),
    ("B100", 2): ((31.98, 0.8974), (32.03, 0.8980)),
    ("B100", 3): ((28.91, 0.8014), (28.96, 0.8024)),
    ("B100", 4): ((27.40, 0.7301), (27.44, 0.7313)),
    ("Urban100", 2): ((31.29, 0.9205), (31.45, 0.9220)),
    ("Urban100", 3): ((27.57, 0.8409), (27.70, 0.8432)),
    ("Urban100", 4): ((25.56, 0.7682), (25.65, 0.7705)),
}
"""PSNR-Y and SSIM-Y of ISRResCNet and ISRResCNet+ (self-ensemble) as published (arXiv 2009.04809)."""

LR, TRUTH = "LR", "truth"


class Report:
    """Gathers pictures while they are made, and writes the page at the end."""

    def __init__(self) -> None:
        self._images: dict[tuple[str, int, str], dict[str, str]] = {}
        self._sizes: dict[tuple[str, int, str], tuple[int, int]] = {}

    def add(
        self, dataset: str, scale: int, name: str, label: str, pixels: UInt8[np.ndarray, "height width channels"]
    ) -> None:
        """Adds a version of a picture: `LR`, `TRUTH`, or the label of what made it. It is kept without loss."""
        key = (dataset, scale, name)
        data = encode_image(Picture(pixels=pixels), "WEBP", quality=100)
        self._images.setdefault(key, {})[label] = base64.b64encode(data).decode()
        if label == TRUTH:
            self._sizes[key] = pixels.shape[1], pixels.shape[0]

    def write(self, path: Path, rows: list[dict[str, Any]]) -> None:
        """Writes the page.

        Args:
          path: Where to; written beside and renamed.
          rows: What `Row.as_dict` returns, each with its "label"; the order is that of the tables.
        """
        scores: dict[tuple[str, int, str], dict[str, float | None]] = {key: {} for key in self._images}
        for row in rows:
            for image in row["images"]:
                scores[row["dataset"], row["scale"], image["name"]][row["label"]] = image["psnr_y"]
        labels = [LR, *dict.fromkeys(row["label"] for row in rows), TRUTH]
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
            data={"labels": labels, "pictures": pictures},
            tables="".join(_table(*key, rows) for key in dict.fromkeys((r["dataset"], r["scale"]) for r in rows)),
            protocol=_protocol(rows[0]),
        )
        replace_file(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))


def _table(dataset: str, scale: int, rows: list[dict[str, Any]]) -> str:
    lines = [["model", "PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB", "parameters", "MAC/pixel", "seconds"]]
    classes = []
    for row in rows:
        if (row["dataset"], row["scale"]) == (dataset, scale):
            values = [(row["psnr_y"], 2), (row["ssim_y"], 4), (row["psnr_rgb"], 2), (row["ssim_rgb"], 4)]
            figures = ["–" if value is None else f"{value:.{digits}f}" for value, digits in values]
            costs = [f"{row['parameters']:,}", f"{row['macs_per_pixel']:,.0f}", f"{row['seconds']:.1f}"]
            lines.append([row["label"], *figures, *costs])
            classes.append("")
    for name, figures in zip(
        ("ISRResCNet (paper)", "ISRResCNet+ (paper)"), PAPER.get((dataset, scale), ()), strict=False
    ):
        lines.append([name, f"{figures[0]:.2f}", f"{figures[1]:.4f}", *["–"] * 5])
        classes.append("paper")
    return f"<section><h2>{html.escape(dataset)} x{scale}</h2>{html_table(lines, classes)}</section>"


def _protocol(row: dict[str, Any]) -> str:
    text = (
        f"Colour space: {row['colour_space']}. Rounding: {row['rounding']}. SSIM window: {row['ssim_window']}."
        f" A border of as many pixels as the scale is left out."
    )
    return html.escape(text)
