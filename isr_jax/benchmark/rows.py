"""What a benchmark says: scores of a picture, a row of the table, and all rows."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isr_jax.pictures.measures import Measure
from isr_jax.pictures.metrics import PROTOCOL


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One picture's."""

    name: str
    values: dict[str, float | None]
    """By the name of the measure: infinite for a PSNR of what differs nowhere; None for a picture that is too small."""
    stages_psnr_y: tuple[float, ...] = ()
    """After each stage, if asked for."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a row took."""

    num_stages: int
    parameters: int
    macs_per_pixel: float
    """Multiply-adds of the convolutions per HR pixel."""
    seconds: float
    """Without compiling."""
    peak_bytes: int
    """Memory of the largest program that this row ran; 0 if none was compiled."""
    compilations: int
    cache_hits: int
    """Programs that were found compiled, on disk."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model on one dataset: a line of the table."""

    model: str
    dataset: str
    """The folder's name."""
    scale: int
    ensemble: bool
    lr_source: str
    """"files", "imresize" or "degradation"."""
    data_sha256: str
    """Hash of every pixel, HR and LR; of a suite, of their files."""
    measures: tuple[Measure, ...]
    """What the pictures were scored by, in the order of the columns."""
    images: tuple[Scores, ...]
    cost: Cost
    degradation: str = ""
    """What made the LR pictures, as `Degradation.parse` reads it; empty: the protocol's bicubic reduction."""
    told: str = ""
    """What the model was told of the degradation."""
    physics: str = ""
    """The degradation as it was asked for, where tables tell several apart."""
    name: str = ""
    """What tables call the model; what its file or folder is called by default."""
    sentinel_ok: bool | None = None
    """Of bicubic enlargement on data whose figures are known: whether it reaches them."""

    @property
    def label(self) -> str:
        """The model's name in tables and plots: without folders, with + for the ensemble."""
        return self.name or model_label(self.model) + (" +" if self.ensemble else "")

    @property
    def place(self) -> str:
        """What tables call the pictures: the set, and how LR was made where there are several ways."""
        return f"{self.dataset}, {self.physics}" if self.physics else self.dataset

    def mean(self, measure: str) -> float | None:
        """Returns the average of a measure, by its name, over the pictures, None if one of them has none."""
        values = [scores.values[measure] for scores in self.images]
        return None if None in values else float(np.mean(values))  # pyright: ignore[reportArgumentType, reportCallIssue]

    def stages(self) -> list[float]:
        """Returns the average PSNR-Y after each stage, if it was asked for; empty otherwise."""
        return [float(mean) for mean in np.mean([scores.stages_psnr_y for scores in self.images], axis=0)]

    def as_dict(self, *, infinite: float | None = None) -> dict[str, Any]:
        """Returns the row as JSON stores it, the protocol included; JSON has no infinity: it is `infinite`."""

        def finite(value: Any) -> Any:
            return infinite if isinstance(value, float) and not math.isfinite(value) else value

        stages = self.stages()
        return {
            **({"name": self.name} if self.name else {}),
            "model": self.model,
            "dataset": self.dataset,
            "scale": self.scale,
            "ensemble": self.ensemble,
            **{measure.name: finite(self.mean(measure.name)) for measure in self.measures},
            **({"stages_psnr_y": [finite(value) for value in stages]} if stages else {}),
            **vars(self.cost),
            **PROTOCOL,
            "border": self.scale,
            "lr_source": self.lr_source,
            **({"degradation": self.degradation, "told": self.told} if self.degradation else {}),
            "data_sha256": self.data_sha256,
            **({} if self.sentinel_ok is None else {"sentinel_ok": self.sentinel_ok}),
            "images": [
                {
                    "name": scores.name,
                    **{name: finite(value) for name, value in scores.values.items()},
                    **({"stages_psnr_y": [*map(finite, scores.stages_psnr_y)]} if stages else {}),
                }
                for scores in self.images
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """The rows of `run_benchmark`."""

    rows: tuple[Row, ...]
    """Of the models, in the order asked for, folder by folder."""
    bicubic: tuple[Row, ...]
    """Of the sentinel, one for each folder and scale."""
    left_out: tuple[Path, ...] = ()
    """Pictures in the folders that are of kinds that are not read."""

    def table(self) -> tuple[Row, ...]:
        """Returns all rows, bicubic enlargement first, each once."""
        return *self.bicubic, *(row for row in self.rows if row not in self.bicubic)

    def as_dict(self) -> dict[str, Any]:
        """Returns the rows as JSON stores them."""
        return {"rows": [row.as_dict() for row in self.rows], "bicubic": [row.as_dict() for row in self.bicubic]}


def group_rows(rows: Sequence[Row]) -> list[list[Row]]:
    """Returns the rows of each set of pictures at each scale together, in the order of the first of each."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.place, row.scale), []).append(row)
    return list(groups.values())


def model_label(name: str) -> str:
    """Returns what a model is called in tables: its file without folders and suffix, or its run's folder."""
    path = Path(os.path.abspath(name))  # "." has no name
    if path.suffix == ".safetensors":
        path = path.parent if path.stem == "model" else path.with_suffix("")
    return path.name
