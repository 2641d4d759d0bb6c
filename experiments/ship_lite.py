"""Puts the models of finished (or paused) runs of configs/lite_x*.py into the package, with a model card each.

    python experiments/ship_lite.py --run runs/lite_x4 --data Set5 Set14 --training-data "..." [--distilled]
        [--free "licences of all it was trained on"] [--gpu RUN ...]

Copies the averaged weights to isr_jax/models/weights/isr-lite-xS.safetensors (float16), evaluates that file, and writes
docs/models/isr-lite-xS.md and, beside the file, its card for Hugging Face (as `isr-jax info --card` makes it); with
--free, isr-lite-xS-free. What the run started from is told first: other runs, and the history of a shipped model. With
--parts, weights are means: of the model that the run started from, those --beside that started from it, too, and the
run itself (Wortsman et al., Model soups, 2022).
"""

import argparse
import dataclasses
import hashlib
import json
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from isr_jax.__main__ import exit_code
from isr_jax.benchmark.benchmark import run_benchmark
from isr_jax.benchmark.rows import Row
from isr_jax.config import ConfigError
from isr_jax.files import replace_file
from isr_jax.models.card import model_card
from isr_jax.models.model_file import (
    SHIPPED,
    find_model,
    load_model,
    model_from_parameters,
    parameters_to_dict,
    read_metadata,
    save_model,
)
from isr_jax.pictures.published import PAPER
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.startup import prepare_process
from isr_jax.training.warm_start import fitting_parameters

ROOT = Path(__file__).resolve().parents[1]

CARD = """# {name}

Super-resolution x{scale} of pictures that were reduced by MATLAB's bicubic `imresize`; shipped inside the package
(`isr-jax upscale photo.png -o big.png --model {name}`). {parameters:,} parameters, {macs:,.0f} multiply-adds per HR
pixel: 1/{times:,.0f} of the paper's ISRResCNet. File: {size:,} bytes (float16), SHA-256
`{digest}`.

| PSNR-Y, dB / SSIM-Y | {sets} |
| --- | {dashes} |
{table}

Scored by `isr-jax evaluate --model {name} --data {sets_plain}` (8-bit output, border of {scale} pixels left out, Y
not rounded). "+" is the self-ensemble of eight flips and rotations. ISRResCNet: as published (arXiv 2009.04809).

## Training

One stage: an exact data step (MATLAB bicubic and its adjoint), then an ERD of {blocks} residual blocks of
{features} features at LR resolution{final}. `configs/lite_x{scale}.py` is the whole
recipe ({optimizer}), but for what this table says; the weights are averaged over the steps (decay {ema}). Distilled
targets are what the self-ensemble of the model shipped before made of reduced training photographs
(`experiments/lite_teacher.py`). Hours are on at most two CPU cores, where no GPU is named. What is mixed
is the weighted mean of the models.
{training_data}

| run | steps | patches a step | drawn | HR targets | largest learning rate | loss | hours | started from |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
{history}

{curve}

## Limits

Made for the bicubic reduction it was trained on: pictures that are blurred otherwise, noisy, or compressed stay so, and
compression artefacts are sharpened with the rest. It invents no texture: fine detail that the reduction lost comes back
as its average, smooth. Trained in far fewer steps, and on far fewer photographs, than published networks of its size.
{licence}
"""

RESEARCH = """MIT licence, as the code. Of the photographs it was trained on, BSDS500 is for research; the -free models
saw none of it."""
FREE = """MIT licence, as the code. It was trained on photographs under free licences alone, and started from no model
that saw others: {licences}."""


TEST_SETS = "The test sets had no part in it: the weights are the last ones, not those that score best."


def read_records(run: Path) -> list[dict[str, Any]]:
    """Returns what a run has recorded."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def with_ancestors(run: Path) -> tuple[list[Path], str]:
    """Returns a run after those it started from, oldest first, and the model that the oldest started from, or ""."""
    runs, start = [run], json.loads((run / "config.json").read_text())["checkpoint"]["init_from"]
    while (Path(start or ".") / "config.json").is_file():
        runs.insert(0, Path(start))
        start = json.loads((runs[0] / "config.json").read_text())["checkpoint"]["init_from"]
    return runs, start


def add_parts(parser: argparse.ArgumentParser) -> None:
    """Adds what `load_mean` asks for."""
    parser.add_argument("--beside", type=Path, nargs="*", default=[], metavar="RUN", help="others, or model files")
    parser.add_argument("--parts", type=float, nargs="*", default=[], help="of the start, those beside, and the run")
    parser.add_argument("--said", help="what the card tells of the parts, if not each run's")


def load_mean(arguments: argparse.Namespace) -> Any:
    """Returns the model of a run, or with `parts` the mean of its start, those `beside` and itself.

    Raises:
      ConfigError: If there is not a part for each.
    """
    run, beside, parts = arguments.run, arguments.beside, arguments.parts
    if (beside or parts) and len(parts) != len(beside) + 2:
        raise ConfigError("--parts needs a number for the start, for each run --beside, and for the run")
    if not parts:
        return load_model(run)
    start = json.loads((run / "config.json").read_text())["checkpoint"]["init_from"]
    models = [load_model(find_model(model)) for model in (start, *beside, run)]
    return jax.tree.map(lambda *leaves: sum(p * leaf for p, leaf in zip(parts, leaves, strict=True)), *models)


def of_one_scale(model: ISRResCNet, scale: int) -> ISRResCNet:
    """Returns what a model of several scales is at one."""
    config = dataclasses.replace(model.config, scale=scale, scales=(scale,))
    wanted = parameters_to_dict(ISRResCNet(config, rngs=nnx.Rngs(0)))
    given = fitting_parameters(wanted, config, model)
    return model_from_parameters(config, {name: np.asarray(value) for name, value in given.items()})


def mixture(arguments: argparse.Namespace) -> dict[Path, str]:
    """Returns of each run that `load_mean` mixes with the start what a card tells of it; of model files nothing."""
    if arguments.said:
        return {arguments.run: f", {arguments.said}"}
    runs = [*arguments.beside, arguments.run]
    start, *parts = arguments.parts or [1]
    return {run: f", of which {start:g} is mixed with {p:g} of this" for run, p in zip(runs, parts, strict=False)}


def history_of(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns what the card tells of a run, after those it started from and the history of a shipped model."""
    runs, start = with_ancestors(arguments.run)
    mixed = mixture(arguments)
    history, origin = [], "scratch"
    if start:
        before = read_metadata(find_model(start))
        history = before.get("history", [])
        origin = f"isr-lite-x{before['config']['scale']}-free" if arguments.free else Path(start).stem
    gpus = [folder.resolve() for folder in arguments.gpu]
    for run in [*runs[:-1], *filter(Path.is_dir, arguments.beside), arguments.run]:
        config, steps = json.loads((run / "config.json").read_text()), read_metadata(find_model(run))["step"]
        data = config["data"]
        # The median: a run may have been paused.
        seconds = float(np.median([r["seconds_per_step"] for r in read_records(run) if "seconds_per_step" in r]))
        hours = seconds * steps / 3600
        entry = {
            "run": f"x{config['model']['scale']}",
            "steps": f"{steps:,}",
            "patches": f"{data['batch_size']} of {data['patch_size']}x{data['patch_size']} LR",
            "drawn": "textured" if data["sampling"] == "texture" else "alike",
            "targets": "true and distilled" if arguments.distilled else "true",
            "learning_rate": config["schedule"]["learning_rate"],
            "loss": config["loss"]["kind"],
            "hours": f"{hours:.2f} of an H100" if run.resolve() in gpus else f"{hours:.1f}",
            "from": origin + mixed.get(run, ""),
        }
        if entry not in history:  # shipped before, from the model that its own file has replaced
            history.append(entry)
        origin = origin if run in mixed else "the run above"
    return history


def main(argv: list[str] | None = None) -> None:
    """Ships one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="test folders, HR/ and LRx2, LRx3, LRx4")
    parser.add_argument("--training-data", required=True, help="what it was trained on, for the card")
    parser.add_argument("--distilled", action="store_true", help="pairs of lite_teacher.py were among the data")
    parser.add_argument("--gpu", nargs="*", type=Path, default=[], metavar="RUN", help="those that a GPU trained")
    parser.add_argument("--free", metavar="LICENCES", help="trained on free photographs alone, under these licences")
    add_parts(parser)
    arguments = parser.parse_args(argv)
    config = json.loads((arguments.run / "config.json").read_text())
    source = find_model(arguments.run)
    metadata = read_metadata(source)
    scale = config["model"]["scale"]
    name = f"isr-lite-x{scale}" + ("-free" if arguments.free else "")
    history, records = history_of(arguments), read_records(arguments.run)
    target = SHIPPED / f"{name}.safetensors"
    provenance = {"history": history, "training_data": arguments.training_data}
    model = load_mean(arguments)
    save_model(target, model, provenance, dtype=np.float16)

    prepare_process()
    rows: dict[str, Sequence[Row]] = {}
    for ensemble in (False, True):
        found = run_benchmark(name, arguments.data, ensemble=ensemble)
        rows["bicubic"], rows[name + "+" * ensemble] = found.bicubic, found.rows
    card = model_card(name, [row.as_dict() for found in rows.values() for row in found])
    replace_file(target.with_suffix(".md"), lambda temporary: temporary.write_text(card, encoding="utf-8"))
    lines = [f"| {label} | {' | '.join(_score(row) for row in found)} |" for label, found in rows.items()]
    names = [row.dataset for row in rows[name]]
    for i, label in enumerate(("ISRResCNet", "ISRResCNet+")):
        cells = (f"{p[i][0]:.2f} / {p[i][1]:.4f}" if (p := PAPER.get((n, scale))) else "" for n in names)
        lines.append(f"| {label} | {' | '.join(cells)} |")
    curves: dict[str, list[str]] = {}
    for record in records:
        for key in record:
            if key.endswith("/psnr_y"):
                curves.setdefault(key.split("/")[0], []).append(f"{record['step']:,}: {record[key]:.2f}")
    curve = "; ".join(f"{dataset} after steps {', '.join(points)}" for dataset, points in curves.items())
    cost, data = rows[name][0].cost, target.read_bytes()
    text = CARD.format(
        name=name,
        scale=scale,
        parameters=cost.parameters,
        macs=cost.macs_per_pixel,
        times=PAPER_MACS / cost.macs_per_pixel,
        size=len(data),
        digest=hashlib.sha256(data).hexdigest(),
        sets=" | ".join(names),
        dashes=" | ".join("---" for _ in names),
        sets_plain=" ".join(names),
        table="\n".join(lines),
        blocks=metadata["config"]["prior"]["num_blocks"],
        features=metadata["config"]["prior"]["features"],
        final=", then a second data step" if config["model"]["final_data_step"] else "",
        optimizer=config["optimizer"]["kind"].capitalize(),
        ema=config["optimizer"]["ema_decay"],
        training_data=textwrap.fill(f"Data: {arguments.training_data}. {TEST_SETS}", 120),
        history="\n".join(f"| {' | '.join(str(v) for v in run.values())} |" for run in history),
        licence=RESEARCH if not arguments.free else textwrap.fill(FREE.format(licences=arguments.free), 120),
        curve=textwrap.fill(f"Validation curve of the last run, PSNR-Y: {curve}.", 120) if curve else "",
    )
    replace_file(ROOT / "docs" / "models" / f"{name}.md", lambda path: path.write_text(text))
    print(text)


PAPER_MACS = 15_169_280
"""Of the paper's network, ten stages, per HR pixel: what experiments/lite_table.py prints."""


def _score(row: Row) -> str:
    return f"{row.mean('psnr_y'):.2f} / {row.mean('ssim_y'):.4f}"


if __name__ == "__main__":
    sys.exit(exit_code(main))
