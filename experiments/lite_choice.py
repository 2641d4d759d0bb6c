"""Which small network to train, and how; and what stages, data term and carried features do for it.

    python experiments/lite_choice.py choice --minutes 10 --train FOLDER ... --test FOLDER ...
    python experiments/lite_choice.py ablation --minutes 3 --train FOLDER ... --test FOLDER ...

Short runs of the same length of time, each on one CPU core. Each variant is timed first, so that its schedule ends
with its time: a slower network gets fewer steps. As many run at once as there are cores, each on its own. Variants that
are done are not run again. Prints a table in Markdown and writes WORKDIR/results.json. Run nothing else meanwhile.
"""

import argparse
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from isr_jax.__main__ import exit_code
from isr_jax.config import UserError
from isr_jax.files import replace_file

ROOT = Path(__file__).resolve().parents[1]


def erd(blocks: int, features: int = 32) -> tuple[str, ...]:
    """Options for the depth and the width of the ERD."""
    return "--model.prior.num-blocks", str(blocks), "--model.prior.features", str(features)


def stages(count: int, blocks: int, *, shared: bool = False, carry: bool = True) -> tuple[str, ...]:
    """Options for several stages."""
    options = ("--model.num-stages", str(count), *erd(blocks), "--loss.stages", "all")
    return (
        *options,
        *(() if shared else ("--model.per-stage",)),
        *(("--model.prior.carry-features",) if carry else ()),
    )


BASE = (
    *erd(9),
    *("--optimizer.kind", "muon"),
    *("--optimizer.clip-norm", "1"),
    *("--schedule.learning-rate", "1.5e-3"),
    *("--data.sampling", "texture", "--data.candidates", "2"),
    *("--data.patch-size", "32"),
    *("--data.batch-size", "16"),
    *("--loss.kind", "l1"),
    "--model.no-final-data-step",
)
"""What every variant starts from, on top of configs/lite_x4.py, whatever that says of it."""
EIGHT = ("--data.batch-size", "8")
TABLES = {
    "choice": {
        "9 blocks, 32 features": (),
        "Adam": ("--optimizer.kind", "adam"),
        "a rate of 3e-3": ("--schedule.learning-rate", "3e-3"),
        "8 patches a step": EIGHT,
        "7 patches of 48x48 a step": ("--data.patch-size", "48", "--data.batch-size", "7"),
        "a data step after the stage": ("--model.final-data-step",),
        "9 blocks, 48 features, 8 patches": (*erd(9, 48), *EIGHT),
        "14 blocks, 48 features, 8 patches": (*erd(14, 48), *EIGHT),
        "16 blocks, 48 features": erd(16, 48),
    },
    "ablation": {
        "1 stage of 9 blocks": (),
        "no data term": ("--model.physics", "none"),
        "L2 loss": ("--loss.kind", "l2"),
        "2 stages of 4 blocks": stages(2, 4),
        "2 stages sharing 4 blocks": stages(2, 4, shared=True),
        "3 stages of 3 blocks": stages(3, 3),
        "3 stages of 3 blocks, nothing carried": stages(3, 3, carry=False),
        "4 stages of 2 blocks": stages(4, 2),
        "5 stages of 2 blocks": stages(5, 2),
        "6 stages of 1 block": stages(6, 1),
    },
}
TABLES["ablation"] = {name: (*EIGHT, *options) for name, options in TABLES["ablation"].items()}


def call(module: str, arguments: list[str], log: Path) -> None:
    """Runs a command of the package in a process of its own."""
    with log.open("a") as file:
        command = [sys.executable, "-m", f"isr_jax.{module}", *arguments]
        if subprocess.run(command, stdout=file, stderr=file).returncode:
            raise UserError(f"isr-jax {module} failed: {log} says why")


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Times, trains and evaluates one variant."""
    place = arguments.workdir / name.replace(" ", "_").replace(",", "")
    log = place.with_suffix(".log")

    def train(workdir: Path, *options: str) -> list[dict[str, float]]:
        config = str(ROOT / "configs" / "lite_x4.py")
        data = ("--data.train", *arguments.train)
        call("train", [config, "--workdir", str(workdir), *data, *BASE, *TABLES[arguments.table][name], *options], log)
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]

    timing = train(place.with_suffix(".timing"), "--steps", "60", "--eval.log-every", "10")
    seconds = statistics.median(record["seconds_per_step"] for record in timing[2:])
    steps = int(60 * arguments.minutes / seconds)
    train(place, "--steps", str(steps))
    scores = place.with_suffix(".json")
    tests = [str(folder) for folder in arguments.test]
    call("evaluate", ["--model", str(place), "--data", *tests, "--per-stage", "--json", str(scores)], log)
    rows = json.loads(scores.read_text())["rows"]
    psnr = {row["dataset"]: row["stages_psnr_y"] for row in rows}
    cost = {key: rows[0][key] for key in ("parameters", "macs_per_pixel")}
    return {"steps": steps, "seconds_per_step": seconds, **cost, "psnr_y_per_stage": psnr}


def print_table(results: dict[str, dict[str, Any]]) -> None:
    """Prints what is known so far, in Markdown."""
    sets = list(next(iter(results.values()))["psnr_y_per_stage"])
    print(f"| variant | parameters | MAC/pixel | steps | ms a step | {' | '.join(sets)} |")
    print("| --- " * (5 + len(sets)) + "|")
    for name, row in results.items():
        scores = (", ".join(f"{v:.2f}" for v in row["psnr_y_per_stage"][s]) for s in sets)
        cells = (name, f"{row['parameters']:,}", f"{row['macs_per_pixel']:,.0f}", str(row["steps"]))
        print("|", " | ".join((*cells, f"{1000 * row['seconds_per_step']:.0f}", *scores)), "|")


def main(argv: list[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--test", nargs="+", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workdir", type=Path, help="runs/TABLE by default")
    arguments = parser.parse_args(argv)
    variants = list(TABLES[arguments.table])
    arguments.workdir = arguments.workdir or Path("runs") / arguments.table
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    record = arguments.workdir / "results.json"
    results = json.loads(record.read_text()) if record.exists() else {}
    cores = sorted(os.sched_getaffinity(0))
    free: queue.SimpleQueue[int] = queue.SimpleQueue()
    for core in cores:
        free.put(core)
    lock = threading.Lock()

    def run(name: str) -> None:
        row = measure(name, arguments)
        with lock:
            results[name] = row
            ordered = {key: results[key] for key in variants if key in results}
            text = json.dumps(ordered, indent=1) + "\n"
            replace_file(record, lambda path: path.write_text(text))

    # A thread's core is that of the processes it starts.
    with ThreadPoolExecutor(len(cores), initializer=lambda: os.sched_setaffinity(0, {free.get()})) as pool:
        list(pool.map(run, [name for name in variants if name not in results]))
    print_table({name: results[name] for name in variants})


if __name__ == "__main__":
    sys.exit(exit_code(main))
