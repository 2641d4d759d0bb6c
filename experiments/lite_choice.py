"""Which small network to train: short runs of the same length of time, of the recipe in configs/lite_x4.py.

    python experiments/lite_choice.py --train FOLDER ... --test FOLDER ... --minutes 10 --workdir runs/choice

Each variant is timed first, so that its schedule ends with its time: a slower network gets fewer steps. Variants that
are done are not run again. Prints a table in Markdown and writes WORKDIR/choice.json. Run nothing else meanwhile.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from isr_jax.evaluate import EvaluateConfig, evaluate
from isr_jax.files import replace_file

ROOT = Path(__file__).resolve().parents[1]
CARRY = ("--model.erd.carry-features", "--loss.stages", "all")
VARIANTS = {
    "1 stage of 9 blocks, 32 features": (),
    "1 stage of 5 blocks": ("--model.erd.num-blocks", "5"),
    "1 stage of 16 blocks": ("--model.erd.num-blocks", "16"),
    "1 stage of 5 blocks, 48 features": ("--model.erd.num-blocks", "5", "--model.erd.features", "48"),
    "1 stage of 16 blocks, 24 features": ("--model.erd.num-blocks", "16", "--model.erd.features", "24"),
    "2 stages of 4 blocks": ("--model.num-stages", "2", "--model.per-stage", "--model.erd.num-blocks", "4", *CARRY),
    "4 stages of 2 blocks": ("--model.num-stages", "4", "--model.per-stage", "--model.erd.num-blocks", "2", *CARRY),
    "2 stages sharing 4 blocks": ("--model.num-stages", "2", "--model.erd.num-blocks", "4", *CARRY),
    "3 stages of 3 blocks": ("--model.num-stages", "3", "--model.per-stage", "--model.erd.num-blocks", "3", *CARRY),
    "3 stages of 3 blocks, nothing carried": (
        *("--model.num-stages", "3", "--model.per-stage", "--model.erd.num-blocks", "3", "--loss.stages", "all"),
    ),
    "no data term": ("--model.data-term", "none"),
    "Charbonnier loss": ("--loss.kind", "charbonnier"),
    "L2 loss": ("--loss.kind", "l2"),
}
"""What differs from configs/lite_x4.py."""


def train(workdir: Path, folders: list[str], options: tuple[str, ...]) -> list[dict[str, float]]:
    """Trains in a process of its own and returns what it recorded."""
    command = [sys.executable, "-m", "isr_jax.train", str(ROOT / "configs" / "lite_x4.py"), "--workdir", str(workdir)]
    subprocess.run([*command, "--data.train", *folders, *options], check=True)
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def measure(name: str, options: tuple[str, ...], arguments: argparse.Namespace) -> dict[str, object]:
    """Times, trains and evaluates one variant."""
    place = arguments.workdir / name.replace(" ", "_").replace(",", "")
    timing = train(place.with_suffix(".timing"), arguments.train, (*options, "--steps", "60", "--eval.log-every", "10"))
    seconds = statistics.median(record["seconds_per_step"] for record in timing[2:])
    steps = int(60 * arguments.minutes / seconds)
    train(place, arguments.train, (*options, "--steps", str(steps)))
    rows, _ = evaluate(EvaluateConfig(model=(str(place),), data=tuple(arguments.test), per_stage=True))
    scores = {row.dataset.name: row.as_dict()["stages_psnr_y"] for row in rows}
    cost = {key: rows[0].cost[key] for key in ("parameters", "macs_per_pixel")}
    return {"steps": steps, "seconds_per_step": seconds, **cost, "psnr_y_per_stage": scores}


def main() -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--test", nargs="+", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workdir", type=Path, default=Path("runs/choice"))
    arguments = parser.parse_args()
    record = arguments.workdir / "choice.json"
    results = json.loads(record.read_text()) if record.exists() else {}
    for name, options in VARIANTS.items():
        if name not in results:
            results[name] = measure(name, options, arguments)
            text = json.dumps(results, indent=1) + "\n"
            replace_file(record, lambda path, text=text: path.write_text(text))
    sets = [folder.resolve().name for folder in arguments.test]
    print(f"| variant | parameters | MAC/pixel | steps | ms a step | {' | '.join(sets)} |")
    print("| --- " * (5 + len(sets)) + "|")
    for name, row in results.items():
        scores = (", ".join(f"{v:.2f}" for v in row["psnr_y_per_stage"][s]) for s in sets)
        cells = (name, f"{row['parameters']:,}", f"{row['macs_per_pixel']:,.0f}", str(row["steps"]))
        print("|", " | ".join((*cells, f"{1000 * row['seconds_per_step']:.0f}", *scores)), "|")


if __name__ == "__main__":
    main()
