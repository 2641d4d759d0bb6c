"""Puts what a run of configs/any.py learned from widths that are told wrong into the package, as a model of one scale.

    python experiments/ship_blind.py --run runs/blind --part 0.7 --training-data "..." --data Set5 Set14

The averaged weights of x4 alone, mixed with those of isr-any, become isr_jax/models/weights/isr-blind-x4.safetensors
(float16); it is scored where the blur is estimated and where it is known (`unknown_blur.py`), and on MATLAB's bicubic
reductions; and docs/models/isr-blind-x4.md is written. The runs that this one started from are told of.
"""

import argparse
import hashlib
import json
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import jax
import numpy as np
import unknown_blur
from ship_any import GPU, milestones, table, told_of
from ship_lite import RESEARCH, of_one_scale

from isr_jax.__main__ import exit_code
from isr_jax.benchmark.benchmark import run_benchmark
from isr_jax.benchmark.degradation import Degradation
from isr_jax.files import replace_file
from isr_jax.inference.automatic import ANY, BLIND
from isr_jax.models.card import model_card
from isr_jax.models.model_file import SHIPPED, find_model, load_model, read_metadata, save_model
from isr_jax.startup import prepare_process

ROOT = Path(__file__).resolve().parents[1]
SCALE = 4
CORES = "two CPU cores"

CARD = """# {name}

[{any}](isr-any.md) for x{scale} alone, trained on with widths that are told wrong: what `isr-jax upscale` takes where
a blur is all that it has found. Told a blur exactly, {any} is better.

    isr-jax upscale photo.png -o big.png --model {name}
    isr_jax.load("{name}").upscale(picture, blur=1.6, noise_std=2.5)

{parameters:,} parameters. File: {size:,} bytes (float16), SHA-256
`{digest}`.

PSNR-Y, dB, of full-size pictures under a Gaussian, reduced by MATLAB's bicubic, by `experiments/unknown_blur.py --model
{name}`; "estimated" is told what `isr_jax.estimate_degradation` believes:

{estimated}

Told that pictures are bicubic reductions without noise (`isr-jax evaluate --model {name} --degradation
sampling=bicubic`), PSNR-Y, dB / SSIM-Y:

{bicubic}

## Training

It is isr-any, trained further: `configs/any.py` but for what this table says, weights averaged over the steps. Where
`told_error` is above 0.1 it was an error of the width itself.
{training_data}

| stages | steps | schedule | patches a step | LR pixels seen in all | time | of | started from |
| --- | --- | --- | --- | --- | --- | --- | --- |
{history}

## Limits

One scale, and what isr-any is bad at: it invents no texture, and blurs of more than 25 pixels it has not seen.
{licence}
"""


def blind_rows(name: str, folders: list[Path]) -> dict[str, list[str]]:
    """Returns the scores of a model that is told the truth or an estimate, by width and set."""
    rows: dict[str, list[str]] = {}
    for folder in folders:
        with tempfile.TemporaryDirectory() as kept:
            target = Path(kept) / "rows.json"
            unknown_blur.main(["--data", str(folder), "--scale", str(SCALE), "--model", name, "--json", str(target)])
            for row in json.loads(target.read_text())["rows"]:
                if row["method"] in ("known", "estimated"):
                    rows.setdefault(f"{name}, {row['method']}", []).append(f"{row['psnr_y']:.2f}")
    return rows


def main(argv: list[str] | None = None) -> None:
    """Ships one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--training-data", required=True, help="what it was trained on, for the card")
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="test folders with HR/")
    parser.add_argument("--gpu", nargs="*", type=Path, default=[], metavar="RUN", help="those that a GPU trained")
    parser.add_argument("--part", type=float, default=1.0, help="of the run's weights, the rest being isr-any's")
    parser.set_defaults(beside=[], parts=[])  # no other run
    arguments = parser.parse_args(argv)
    part = arguments.part
    arguments.said = f"of which {part:g} is mixed with {1 - part:g} of {ANY}" if part < 1 else None
    prepare_process()
    name, target = BLIND, SHIPPED / f"{BLIND}.safetensors"
    before = read_metadata(find_model(ANY))["history"]
    history: list[dict[str, Any]] = [
        e if e in before or e["device"] == GPU else {**e, "device": CORES} for e in milestones(arguments)
    ]
    ours, others = (of_one_scale(load_model(find_model(each)), SCALE) for each in (arguments.run, ANY))
    model = jax.tree.map(lambda x, y: part * x + (1 - part) * y, ours, others)
    save_model(target, model, {"history": history, "training_data": arguments.training_data}, dtype=np.float16)

    columns = [f"{f.name}, width {case.width:g}" for f in arguments.data for case in unknown_blur.cases("blur", SCALE)]
    rows = blind_rows(name, arguments.data)
    plain: dict[str, Any] = {}
    for each in (ANY, name):
        found = run_benchmark(each, arguments.data, scale=SCALE, degradation=Degradation.parse("sampling=bicubic"))
        plain[each] = found.rows
    cells = {k: [f"{r.mean('psnr_y'):.2f} / {r.mean('ssim_y'):.4f}" for r in of] for k, of in plain.items()}
    text = CARD.format(
        name=name,
        any=ANY,
        scale=SCALE,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(model)),
        size=target.stat().st_size,
        digest=hashlib.sha256(target.read_bytes()).hexdigest(),
        estimated=table(["", *columns], rows),
        bicubic=table(["", *(row.dataset for row in plain[name])], cells),
        training_data=textwrap.fill(f"Data: {arguments.training_data}. No benchmark had a part in it.", 120),
        history="\n".join(f"| {' | '.join(told_of(entry))} |" for entry in history),
        licence=RESEARCH,
    )
    replace_file(ROOT / "docs" / "models" / f"{name}.md", lambda path: path.write_text(text))
    scored = [row.as_dict() | {"degradation": ""} for row in plain[name]]  # the bicubic one, which cards are of
    replace_file(target.with_suffix(".md"), lambda path: path.write_text(model_card(name, scored), encoding="utf-8"))
    print(text)


if __name__ == "__main__":
    sys.exit(exit_code(main))
