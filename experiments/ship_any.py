"""Puts the model of a finished (or decayed) run of configs/any.py into the package, with its model card.

    python experiments/ship_any.py --run runs/any --name isr-any --training-data "..." --data Set5 Set14 \
        --known-blur BSD68 usrnet_12.npz [--free "licences of all it was trained on"]

Copies the averaged weights to isr_jax/models/weights/NAME.safetensors (float16), scores that file where the blur is
known (`known_blur.py`, whose records it keeps in --workdir, to go on from) and on MATLAB's bicubic reductions, and
writes docs/models/NAME.md and docs/images/NAME.png: the score of each milestone against the pixels it had seen. The
runs that this one started from are told of, back to a shipped model or scratch; --gpu names those of a GPU. --parts
makes it a mean, as in `ship_lite.py`.
"""

import argparse
import hashlib
import json
import runpy
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import known_blur as judge
import numpy as np
from matplotlib.figure import Figure
from ship_lite import FREE, RESEARCH, add_parts, load_mean, mixture, read_records, with_ancestors

from isr_jax.__main__ import exit_code
from isr_jax.benchmark.benchmark import run_benchmark
from isr_jax.benchmark.degradation import Degradation
from isr_jax.config.dictionaries import config_to_dict
from isr_jax.files import replace_file
from isr_jax.models.card import model_card
from isr_jax.models.model_file import SHIPPED, find_model, read_metadata, save_model
from isr_jax.startup import prepare_process

ROOT = Path(__file__).resolve().parents[1]

CARD = """# {name}

One model for pictures whose blur, noise and JPEG quality are known, at x1, x2, x3 and x4: an unrolled solver that is
told the physics.

    isr-jax upscale photo.png -o big.png --model {name} --scale 3 --blur 1.6 --noise 2.5
    isr_jax.load("{name}").upscale(picture, scale=3, blur=kernel, noise_std=2.5, jpeg=75)

{parameters:,} parameters. File: {size:,} bytes (float16), SHA-256
`{digest}`.

## Where the blur is known

PSNR of RGB, dB, mean over {kernels} kernels and {pictures} pictures, by `experiments/known_blur.py` (USRNet's
benchmark; xSCALE/NOISE):

{means}

![the means against the pixels seen](../images/NAME.png)

By kernel:

{by_kernel}

## MATLAB's bicubic reduction

Told that the pictures are such reductions without noise; PSNR-Y, dB / SSIM-Y, by
`isr-jax evaluate --model {name} --degradation sampling=bicubic --data {sets}`:

{bicubic}

## Training

{network}
`configs/any.py` is the recipe, but for what this table says; weights are averaged over the steps. The first
run saw no JPEG and no x1, and all that had one stage drew from `data.degradation` bicubic 2, motion 3, noise_free
0.5 and jpeg_free 0.6, the scales in turn. Times are of a machine on which nothing else runs.
{training_data}

| stages | steps | schedule | patches a step | LR pixels seen in all | time | of | started from | {settings} |
| --- | --- | --- | --- | --- | --- | --- | --- | {dashes} |
{history}

## Limits

It believes what it is told. Within a fifth of the true width it stays above bicubic enlargement; too wide a blur costs
more than too narrow a one, and a wide blur told 30 % too wide falls below it:

![PSNR against an error in the width, the angle and the noise](../images/NAME-wrong-physics.png)

(`python experiments/wrong_physics.py --data BSD68 --every 6 --model NAME --plot
docs/images/NAME-wrong-physics.png`)

It invents no texture: reduced again, its result is the picture that it was given, where that of a network trained to
look sharp is another.

![a detail, enlarged by SRResCGAN and by NAME, and what each contradicts](../images/NAME-faithful.png)

(`python experiments/faithful.py --model srrescgan.safetensors NAME --plot docs/images/NAME-faithful.png`)

Blurs of more than 25 pixels it has not seen, and of JPEG the qualities 10 to 95.
{licence}
"""


NETWORK = """Solutions in closed form under three weights, the LR residual and the noise level go into an ERD of
{blocks} residual blocks of {features} features at LR resolution, which all scales share; a data step in closed form
follows."""
STAGES = " Both are done {stages} times with the same weights, the features of the ERD being carried on."
CORE, GPU = "one CPU core", "one H100"


def milestones(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns what is to be told of a run, after those it started from."""
    runs, start = with_ancestors(arguments.run)
    mixed = mixture(arguments)
    gpus = [folder.resolve() for folder in arguments.gpu]
    before = read_metadata(find_model(start)).get("history", []) if start else []
    history = [entry for entry in before if "pixels" in entry]
    origin = "the run above" if history else Path(start).stem if start else "scratch"
    for one in [*runs[:-1], *filter(Path.is_dir, arguments.beside), arguments.run]:
        config, steps = json.loads((one / "config.json").read_text()), read_metadata(find_model(one))["step"]
        data = config["data"]
        pixels = steps * data["batch_size"] * data["patch_size"] ** 2
        seconds = [record["seconds_per_step"] for record in read_records(one) if "seconds_per_step" in record]
        entry = {
            "stages": config["model"]["num_stages"],
            "steps": steps,
            "schedule": config["schedule"]["kind"],
            "batch": data["batch_size"],
            "pixels": pixels + (history[-1]["pixels"] if history else 0),
            # A tenth of the records were disturbed by nothing.
            "hours": round(float(np.quantile(seconds, 0.1)) * steps / 3600, 4),
            "device": GPU if one.resolve() in gpus else CORE,
            "from": ", ".join([origin, *departures(config)]) + mixed.get(one, ""),
        }
        history.append(entry)
        origin = "the same" if one in mixed else "the run above"
    return history


def departures(config: dict[str, Any]) -> list[str]:
    """Returns what a run drew, and how it learned, otherwise than the recipe."""
    recipe = config_to_dict(runpy.run_path(str(ROOT / "configs" / "any.py"))["CONFIG"])
    values, usual = (
        {
            **c["data"]["degradation"],
            "learning_rate": c["schedule"]["learning_rate"],
            "ema": c["optimizer"]["ema_decay"],
            "scales": " ".join(map(str, c["data"]["scale_cycle"])),
        }
        for c in (config, recipe)
    )
    return [f"{name} {value}" for name, value in values.items() if value != usual[name]]


def told_of(entry: dict[str, Any]) -> list[str]:
    """Returns what the table of a card tells of one of its `milestones`."""
    hours = entry["hours"]
    told = [str(entry.get("stages", 1)), f"{entry['steps']:,}", entry["schedule"], str(entry["batch"])]
    told += [f"{entry['pixels'] / 1e6:,.0f} M", f"{hours:.1f} h" if hours > 0.5 else f"{60 * hours:.1f} min"]
    return [*told, entry["device"], entry["from"]]


def table(columns: list[str], rows: dict[str, list[str]]) -> str:
    """Returns a table in Markdown."""
    lines = ["| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
    return "\n".join(lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()])


def draw(history: list[dict[str, Any]], path: Path, name: str) -> None:
    """Draws the means of the milestones, beside those of USRNet."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axis = figure.subplots()
    for setting, published in judge.PUBLISHED["USRNet (published)"].items():
        points = [(entry["pixels"] / 1e6, entry[setting]) for entry in history if setting in entry]
        (line,) = axis.plot(*zip(*points, strict=True), "o-", label=f"{setting}: {points[-1][1]:.2f} dB")
        axis.axhline(float(np.mean(published)), color=line.get_color(), linestyle=":", linewidth=1)
    axis.set(xlabel="millions of LR pixels seen", ylabel="PSNR, dB", title=f"{name}; dotted: USRNet, 17 M parameters")
    axis.set_xscale("log")
    axis.grid(alpha=0.3)
    axis.legend()
    replace_file(path, lambda beside: figure.savefig(beside, format="png", dpi=110))


def main(argv: list[str] | None = None) -> None:
    """Ships one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--name", required=True, help="isr-any or isr-any-free")
    parser.add_argument("--training-data", required=True, help="what it was trained on, for the card")
    parser.add_argument("--known-blur", nargs=2, type=Path, required=True, metavar=("BSD68", "KERNELS"))
    parser.add_argument("--every", type=int, default=1, help="take every so many-th of those pictures")
    parser.add_argument("--data", nargs="+", type=Path, required=True, help="test folders, HR/ and LRx2, LRx3, LRx4")
    parser.add_argument("--free", metavar="LICENCES", help="trained on free photographs alone, under these licences")
    parser.add_argument("--gpu", nargs="*", type=Path, default=[], metavar="RUN", help="those that a GPU trained")
    add_parts(parser)
    parser.add_argument("--workdir", type=Path, default=Path("runs/ship_any"))
    arguments = parser.parse_args(argv)
    prepare_process()
    name = arguments.name
    target, history = SHIPPED / f"{name}.safetensors", milestones(arguments)
    if target.exists():  # what was shipped before stays on the curve
        scored = [e for e in read_metadata(target).get("history", []) if set(judge.WEIGHTS) & set(e)]
        before = [{"batch": 16, "device": CORE} | e for e in scored if e["pixels"] < history[-1]["pixels"]]
        history = [entry for entry in before if entry not in history] + history
    model = load_mean(arguments)
    save_model(target, model, {"training_data": arguments.training_data}, dtype=np.float16)

    paths = judge.full_size_pictures(arguments.known_blur[0])[:: arguments.every]
    kernels = judge.read_kernels(arguments.known_blur[1])
    settings = [judge.Setting.of(setting) for setting in judge.WEIGHTS]
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    record = judge.Record(arguments.workdir / "scores.jsonl")
    rows = judge.run(paths, kernels, ["bicubic", "closed-form", name], settings, record)
    found = {(row["model"], f"x{row['scale']}/{row['noise']:g}"): row for row in rows}
    history[-1] |= {setting.name: round(found[name, setting.name]["mean"], 3) for setting in settings}
    provenance = {"history": history, "training_data": arguments.training_data}
    save_model(target, model, provenance, dtype=np.float16)

    labels = ["bicubic", "closed-form", name, *judge.PUBLISHED]

    def cells(label: str, setting: str) -> list[float]:
        return list(judge.PUBLISHED[label][setting]) if label in judge.PUBLISHED else found[label, setting]["kernels"]

    means = {label: [f"{np.mean(cells(label, s.name)):.2f}" for s in settings] for label in labels}
    by_kernel = [
        table(
            [s.name, *(str(i + 1) for i in range(len(kernels)))],
            {label: [f"{value:.2f}" for value in cells(label, s.name)] for label in labels[2:]},
        )
        for s in settings
    ]
    suffix = "-free" if arguments.free else ""
    plain: dict[str, list[str]] = {"bicubic": [], name: [], f"isr-lite{suffix}": []}
    columns, rows = [], []
    for scale in (scale for scale in model.config.all_scales if scale > 1):  # isr-lite enlarges
        ours = run_benchmark(name, arguments.data, scale=scale, degradation=Degradation.parse("sampling=bicubic"))
        lite = run_benchmark(f"isr-lite-x{scale}{suffix}", arguments.data)
        for label, of_model in zip(plain, (ours.bicubic, ours.rows, lite.rows), strict=True):
            plain[label] += [f"{row.mean('psnr_y'):.2f} / {row.mean('ssim_y'):.4f}" for row in of_model]
        columns += [f"{row.dataset} x{scale}" for row in ours.rows]
        rows += [row.as_dict() | {"degradation": ""} for row in ours.rows]  # the bicubic one, which cards are of
    lines = []
    for entry in history:
        scores = [f"{entry[s.name]:.2f}" if s.name in entry else "" for s in settings]
        lines.append(f"| {' | '.join(told_of(entry) + scores)} |")
    text = CARD.format(
        name=name,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(model)),
        size=target.stat().st_size,
        digest=hashlib.sha256(target.read_bytes()).hexdigest(),
        kernels=len(kernels),
        pictures=len(paths),
        means=table(["", *(s.name for s in settings)], means),
        by_kernel="\n\n".join(by_kernel),
        sets=" ".join(folder.name for folder in arguments.data),
        bicubic=table(["", *columns], plain),
        network=textwrap.fill(
            (NETWORK + STAGES * (model.config.num_stages > 1)).format(
                blocks=model.config.erd.num_blocks,
                features=model.config.erd.features,
                stages=model.config.num_stages,
            ),
            120,
        ),
        training_data=textwrap.fill(f"Data: {arguments.training_data}. No benchmark had a part in it.", 120),
        settings=" | ".join(s.name for s in settings),
        dashes=" | ".join("---" for _ in settings),
        history="\n".join(lines),
        licence=textwrap.fill(FREE.format(licences=arguments.free), 120) if arguments.free else RESEARCH,
    ).replace("NAME", name)
    draw(history, ROOT / "docs" / "images" / f"{name}.png", name)
    replace_file(ROOT / "docs" / "models" / f"{name}.md", lambda path: path.write_text(text))
    replace_file(target.with_suffix(".md"), lambda path: path.write_text(model_card(name, rows), encoding="utf-8"))
    print(text)


if __name__ == "__main__":
    sys.exit(exit_code(main))
