"""Which network to train: variants of a configuration, compared at equal CPU-seconds.

    python experiments/choice.py lite --minutes 7 20 --seeds 0 1 --train FOLDER ... --validation DEV
    python experiments/choice.py any --minutes 20 --train FOLDER ... --validation DEV

Every variant has one core to itself, and as many steps as it takes in that time: first a few steps of each are timed in
CPU-seconds, which other work on the machine changes little. The schedule ends with the steps. Each is scored on DEV,
held-back pictures that are no benchmark: "lite" by PSNR-Y, "any" by the protocol of `known_blur.py` at x4 without
noise, with the twelve kernels that are there to choose by. What is done is kept in WORKDIR/results.jsonl, and the same
command goes on from there; the table is printed in Markdown.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from isr_jax.__main__ import exit_code
from isr_jax.config import TrainConfig, UserError
from isr_jax.files import replace_file
from isr_jax.train import load_config

ROOT = Path(__file__).resolve().parents[1]
Variant = Callable[[TrainConfig], TrainConfig]
TIMED_STEPS = 16


def in_model(**changes: Any) -> Variant:
    """A variant with other fields of the model, and (`prior_...`) of its prior."""
    own = {name: value for name, value in changes.items() if not name.startswith("prior_")}
    of_prior = {name.removeprefix("prior_"): value for name, value in changes.items() if name.startswith("prior_")}

    def change(config: TrainConfig) -> TrainConfig:
        prior = dataclasses.replace(config.model.prior, **of_prior)
        return dataclasses.replace(config, model=dataclasses.replace(config.model, prior=prior, **own))

    return change


def erd(blocks: int, features: int, patch: int = 32, batch: int = 8) -> Variant:
    """A variant of isr-lite."""
    model = in_model(prior_num_blocks=blocks, prior_features=features)

    def change(config: TrainConfig) -> TrainConfig:
        data = dataclasses.replace(config.data, patch_size=patch, batch_size=batch)
        return dataclasses.replace(model(config), data=data)

    return change


def stages(count: int, blocks: int, *, shared: bool) -> Variant:
    """A variant of isr-any with one solution, and a data step `count` times, each behind so many blocks."""
    return in_model(
        start_weights=(1e-5,),
        num_stages=count,
        per_stage=not shared,
        prior_num_blocks=blocks,
        prior_carry_features=True,
    )


VARIANTS: dict[str, dict[str, Variant]] = {
    "lite": {
        "6 blocks, 28 features": erd(6, 28),
        "9 blocks, 32 features": erd(9, 32),
        "12 blocks, 40 features": erd(12, 40),
        "14 blocks, 48 features": erd(14, 48),
        "9 blocks, 32 features, 4 patches of 48x48": erd(9, 32, 48, 4),
        "14 blocks, 48 features, 4 patches of 48x48": erd(14, 48, 48, 4),
    },
    "any": {
        "3 solutions, 14 blocks, a data step": in_model(),
        "1 solution": in_model(start_weights=(1e-5,)),
        "5 solutions": in_model(start_weights=(1e-7, 1e-6, 1e-5, 1e-4, 1e-3)),
        "no noise plane": in_model(prior_noise_plane=False),
        "no data step behind": in_model(data_step_place="before"),
        "gradient steps": in_model(
            start_weights=(), data_step="gradient", data_step_place="before", learned_step=True, final_data_step=True
        ),
        "conjugate gradients": in_model(start_weights=(), data_step="conjugate_gradient", data_step_place="after"),
        "2 x 6 blocks": stages(2, 6, shared=False),
        "2 x 6 blocks, shared": stages(2, 6, shared=True),
        "4 x 2 blocks": stages(4, 2, shared=False),
        "4 x 2 blocks, shared": stages(4, 2, shared=True),
        "8 x 1 block": stages(8, 1, shared=False),
    },
}
"""The first of "any" is what the others change."""


def base(table: str) -> TrainConfig:
    """Returns the configuration whose variants are compared."""
    config = load_config(ROOT / "configs" / {"lite": "lite_x4.py", "any": "any.py"}[table])
    if table != "any":
        return config
    blur_alone = dataclasses.replace(
        config.data.degradation, bicubic=2.0, motion=3.0, noise_free=0.5, jpeg_free=0.6, jpeg_quality=None
    )
    data = dataclasses.replace(config.data, degradation=blur_alone, scale_cycle=())
    one_stage = in_model(scales=(), num_stages=1, prior_error_plane=False, prior_carry_features=False)
    return one_stage(dataclasses.replace(config, data=data))


def child(arguments: argparse.Namespace, name: str, seed: int, steps: int) -> dict[str, Any]:
    """Times a variant (steps 0), or trains and scores it; in a process and on a core of its own."""
    from isr_jax.inference.upscaler import load  # here: the parent needs no JAX
    from isr_jax.startup import prepare_process
    from isr_jax.training.loop import fit

    prepare_process()
    config = VARIANTS[arguments.table][name](base(arguments.table))
    config = dataclasses.replace(
        config,
        seed=seed,
        steps=steps or 10_000,
        data=dataclasses.replace(config.data, train=tuple(arguments.train)),
        eval=dataclasses.replace(config.eval, data=(), log_every=1 if not steps else 50),
        schedule=dataclasses.replace(config.schedule, warmup_steps=min(200, max(1, steps // 10))),
    )
    if not steps:
        marks: list[float] = []

        class Enough(Exception):
            pass

        def mark(step: int, values: Any) -> None:
            marks.append(time.process_time())
            if step == TIMED_STEPS:
                raise Enough

        with tempfile.TemporaryDirectory() as folder:
            try:
                fit(config, folder, callback=mark, quiet=True)
            except Enough:
                pass
        return {"cpu_seconds_per_step": float(np.min(np.diff(marks)[TIMED_STEPS // 4 :]))}
    run = arguments.workdir / f"{name}_{seed}_{steps}".replace(" ", "_").replace(",", "")
    before = time.process_time()
    fit(config, run, quiet=True)
    spent = (time.process_time() - before) / 60
    model = load(run)
    size = {"parameters": model.num_parameters, "macs": model.macs_per_pixel}
    return {**size, "cpu_minutes": spent, "psnr": score(arguments, run)}


def score(arguments: argparse.Namespace, run: Path) -> float:
    """Returns the figure that decides, dB."""
    if arguments.table == "lite":
        from isr_jax.benchmark.benchmark import run_benchmark

        return run_benchmark(str(run), arguments.validation).rows[0].mean("psnr_y") or 0.0
    sys.path.insert(0, str(ROOT / "experiments"))
    import known_blur as judge

    paths = judge.full_size_pictures(arguments.validation)
    kernels, setting = judge.development_kernels(), judge.Setting.of("x4/0")
    return judge.run(paths, kernels, [str(run)], [setting], judge.Record(None))[0]["mean"]


def main(argv: list[str] | None = None) -> None:
    """Runs what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=VARIANTS)
    parser.add_argument("--train", nargs="+", required=True, help="folders of training pictures, or packs")
    parser.add_argument("--validation", type=Path, required=True, help="held-back pictures")
    parser.add_argument("--minutes", type=float, nargs="+", default=[20.0], help="CPU-minutes of each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", help="these variants alone")
    parser.add_argument("--workdir", type=Path, help="runs/choice_TABLE by default")
    parser.add_argument("--plot", type=Path, help="PNG to draw the table into")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    arguments.workdir = arguments.workdir or Path("runs") / f"choice_{arguments.table}"
    arguments.workdir.mkdir(parents=True, exist_ok=True)
    if arguments.child:
        name, seed, steps = arguments.child
        print(json.dumps(child(arguments, name, int(seed), int(steps))), flush=True)
        return
    if unknown := set(arguments.only or ()) - set(VARIANTS[arguments.table]):
        raise UserError(f"no variant {min(unknown)}; there are {', '.join(VARIANTS[arguments.table])}")
    names = [name for name in VARIANTS[arguments.table] if not arguments.only or name in arguments.only]
    record = arguments.workdir / "results.jsonl"
    done: dict[tuple[Any, ...], dict[str, Any]] = {}
    if record.exists():
        for line in record.read_text().splitlines():
            *key, row = json.loads(line)
            done[tuple(key)] = row
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0)):
        cores.put(core)
    lock = threading.Lock()

    def call(name: str, seed: int, steps: int) -> dict[str, Any]:
        command = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv)]
        command += ["--child", name, str(seed), str(steps)]
        with (arguments.workdir / f"{threading.current_thread().name}.log").open("w") as log:
            told = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True)
        if told.returncode:
            raise UserError(f"{name} failed: {log.name} says why")
        return json.loads(told.stdout.splitlines()[-1])

    def once(key: tuple[Any, ...], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if key not in done:
            row = make()
            with lock, record.open("a") as file:
                done[key] = row
                file.write(json.dumps([*key, row]) + "\n")
        return done[key]

    def train(job: tuple[str, int, float]) -> None:
        name, seed, minutes = job
        pace = once((name,), lambda: call(name, 0, 0))["cpu_seconds_per_step"]
        steps = round(60 * minutes / pace)
        once((name, seed, minutes), lambda: {"steps": steps, **call(name, seed, steps)})

    jobs = [
        (name, seed, minutes) for minutes in sorted(arguments.minutes) for seed in arguments.seeds for name in names
    ]
    with ThreadPoolExecutor(cores.qsize(), initializer=lambda: os.sched_setaffinity(0, {cores.get()})) as pool:
        list(pool.map(train, jobs))
    print_table(names, done, arguments.seeds, sorted(arguments.minutes))
    if arguments.plot:
        draw(names, done, arguments.seeds, sorted(arguments.minutes), arguments.plot)


def print_table(names: list[str], done: dict[tuple[Any, ...], Any], seeds: list[int], budgets: list[float]) -> None:
    """Prints parameters, multiply-adds, speed, and of each budget the score of every seed."""
    heads = [f"{minutes:g} min" for minutes in budgets]
    print(f"| variant | parameters | MAC/pixel | CPU ms a step | {' | '.join(heads)} |")
    print("| --- " * (4 + len(budgets)) + "|")
    for name in names:
        rows = [[done[name, seed, minutes] for seed in seeds] for minutes in budgets]
        cells = [name, f"{rows[0][0]['parameters']:,}", f"{rows[0][0]['macs']:,.0f}"]
        cells.append(f"{1000 * done[name,]['cpu_seconds_per_step']:.0f}")
        cells += [", ".join(f"{row['psnr']:.2f}" for row in of_budget) for of_budget in rows]
        print(f"| {' | '.join(cells)} |")


def draw(
    names: list[str], done: dict[tuple[Any, ...], Any], seeds: list[int], budgets: list[float], path: Path
) -> None:
    """Draws the score of every run, the variants from the best down, a colour for each budget."""
    ordered = sorted(names, key=lambda name: np.mean([done[name, seed, budgets[-1]]["psnr"] for seed in seeds]))
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(names)), layout="constrained")
    axis = figure.subplots()
    for i, minutes in enumerate(budgets):
        points = [(done[name, seed, minutes]["psnr"], row) for row, name in enumerate(ordered) for seed in seeds]
        axis.plot(*zip(*points, strict=True), "o", color=f"C{i}", label=f"{minutes:g} CPU-minutes")
    axis.set_yticks(range(len(ordered)), ordered)
    axis.set_xlabel("PSNR on held-back pictures, dB")
    axis.grid(alpha=0.3)
    axis.legend()
    replace_file(path, lambda beside: figure.savefig(beside, format="png", dpi=110))


if __name__ == "__main__":
    sys.exit(exit_code(main))
