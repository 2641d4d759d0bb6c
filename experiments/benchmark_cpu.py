"""Speed and memory on CPU, side by side with a PyTorch twin of the same network with the same weights.

    python experiments/benchmark_cpu.py --torch-python /path/to/python --json cpu.json --plot cpu.png

PyTorch runs in a process of its own (`torch_twin.py`), under any Python that has it; without --torch-python only ours
is measured. The two take turns, measurement by measurement, on the same cores; a matmul of 2048 x 2048 takes its turn
too, as the peak of the moment. Medians of `--repeats` runs after warming up. What is measured:

    a  inference of the paper's network, K = 10, 64x64 -> 256x256       e  single 3x3 convolutions and their gradients
    b  inference of a 128x128 picture                                   f  peak memory of a and c, in fresh processes
    c  a training step of it, batch 4 of HR 96x96, K = 4, L1, Adam      g  compile time, and the first result of a
    d  a training step of a small network at LR resolution, 16x128x128  command with and without the compilation cache
    h  a training step of isr-lite-x4, 8 patches of HR 128x128, Adam

They are all in this one file, for they take turns in one run. `--json` writes one object a measurement with `ours`,
`torch` (seconds, megabytes in f) and `ratio`; e is a list.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from isr_jax.config import ERDConfig, ModelConfig, config_to_dict
from isr_jax.models.model_file import parameters_to_dict
from isr_jax.physics.names import make_physics
from isr_jax.physics.noise_level import DB7_HIGH_PASS
from isr_jax.physics.resampling import catmull_rom_phases
from isr_jax.physics.resize import resize_matrix
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.convolution import conv2d
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.startup import keep_freed_memory, use_compilation_cache
from isr_jax.train import load_config

CONVOLUTIONS = [(16, 48, 48, 64), (16, 32, 32, 32), (1, 256, 256, 64)]
TURN_SECONDS = 1.0  # as in torch_twin.py
OPERATIONS = ("forward", "input", "weight")
WHAT = {
    "a": "inference, paper's network, 64x64 to 256x256",
    "b": "inference, paper's network, 128x128 to 512x512",
    "c": "training step, paper's network, K = 4, 4 x 96x96",
    "d": "training step, small network, 16 x 128x128",
    "h": "training step, isr-lite-x4, 8 x 128x128",
}
TRAINING = "cdh"
"""Those of `WHAT` that are training steps."""


def make_case(name: str, small: bool) -> tuple[ISRResCNet, np.ndarray, np.ndarray | None, bool]:
    """Returns the model, the LR pictures, the HR pictures if it is a training step, whether all stages are in the loss.

    `small` shrinks everything, to try the benchmark itself.
    """
    if name == "h":
        config = load_config(Path(__file__).parents[1] / "configs" / "lite_x4.py").model
        if small:
            config = dataclasses.replace(config, prior=dataclasses.replace(config.erd, num_blocks=2))
    elif name == "d":
        network = ERDConfig(
            features=32,
            num_blocks=2,
            feedback_steps=0,
            kernel_size=3,
            border="zero",
            weight_norm=False,
            first_shortcut=True,
            resolution="lr",
            carry_features=True,
        )
        config = ModelConfig(
            num_stages=4,
            per_stage=True,
            physics="bicubic",
            learned_step=True,
            extrapolation=False,
            projection=False,
            clip=False,
            prior=network,
        )
    else:
        stages = 2 if small else {"a": 10, "b": 10, "c": 4}[name]
        config = ModelConfig(num_stages=stages, prior=ERDConfig(feedback_steps=1 if small else 4))
    batch, size = {"a": (1, 64), "b": (1, 128), "c": (4, 24), "d": (16, 32), "h": (8, 32)}[name]
    if small:
        batch, size = min(batch, 2), 16
    rng = np.random.default_rng(0)
    model = ISRResCNet(config, rngs=nnx.Rngs(0))
    # Noise beside a smooth picture, so that neither the noise level nor the projection is trivial.
    waves = 128 + 80 * np.sin(np.arange(size * 4)[:, None, None] / 9) * np.cos(np.arange(size * 4)[:, None] / 7)
    hr = np.clip(waves + rng.normal(0, 5, (batch, size * 4, size * 4, 3)), 0, 255).astype(np.float32)
    return model, hr[:, ::4, ::4], hr if name in TRAINING else None, name == "d"


def make_program(model: ISRResCNet, lr: np.ndarray, hr: np.ndarray | None, all_stages: bool, plain: bool):
    """Returns the jitted function, and its arguments: (model, lr) -> HR, or (state, lr, hr) -> (state, loss).

    It is compiled as the package does, or, `plain`, as XLA does by itself.
    """
    options = {} if plain else compiler_options(model.config)
    if hr is None:
        return jax.jit(lambda model, lr: model(lr), compiler_options=options), (model.folded(), jnp.asarray(lr))
    adam = optax.adam(1e-4)

    def step(state, lr, hr):
        model, moments = state
        loss, gradient = jax.value_and_grad(lambda m: jnp.mean(jnp.abs(m(lr, all_stages=all_stages) - hr)))(model)
        updates, moments = adam.update(gradient, moments)
        return (optax.apply_updates(model, updates), moments), loss

    state = jax.tree.map(jnp.array, (model, adam.init(model)))  # pyright: ignore[reportArgumentType]
    return jax.jit(step, donate_argnums=0, compiler_options=options), (state, jnp.asarray(lr), jnp.asarray(hr))


def make_runner(program, arguments) -> Callable[[], np.ndarray]:
    """Returns the function that does one measurement's work: the pictures, or the loss before the step."""
    state = list(arguments)

    def run() -> np.ndarray:
        result = program(*state)
        if len(state) == 3:
            state[0], result = result
        return np.asarray(jax.block_until_ready(result))

    return run


def count_flops(model: ISRResCNet, lr: np.ndarray, training: bool) -> float:
    """Returns the operations of the network's convolutions; a training step has three times those of its forward."""
    erd, at_lr = model.config.erd, model.config.erd.resolution == "lr"
    stage = 1 if model.config.per_stage else model.config.num_stages  # stacked kernels already count every stage
    total = 0
    for name, array in parameters_to_dict(model).items():
        if name.endswith("kernel"):
            repeated = "blocks" in name or "compress" in name
            total += 2 * array.size * stage * (max(1, erd.feedback_steps) if repeated else 1)
    pixels = lr.shape[0] * lr.shape[1] * lr.shape[2] * (1 if at_lr else model.config.scale**2)
    return total * pixels * (3 if training else 1)


def write_case(folder: Path, name: str, small: bool) -> None:
    """Hands a case to the twin: configuration, weights, pictures, and the constants it need not derive."""
    model, lr, hr, all_stages = make_case(name, small)
    config, scale = model.config, model.config.scale
    (_, h, w, _), arrays = lr.shape, parameters_to_dict(model)
    arrays |= {"input.lr": lr, "constant.high_pass": DB7_HIGH_PASS.astype(np.float32)}
    if hr is not None:
        arrays["input.hr"] = hr
    weights = catmull_rom_phases(scale)[:, 1:]  # the first of five taps is 0
    # out[s i + p, s j + q] = sum c(p/s)[a] c(q/s)[b] y[i + b, j + a]: the released code's swap of the two fractions.
    phases = np.einsum("pa,qb->pqba", weights, weights).reshape(scale**2, 1, 4, 4)
    arrays["constant.phases"] = phases.astype(np.float32)
    for prefix, down in (("", True), ("start_", False)):
        for axis, size in (("rows", h), ("cols", w)):
            shape = (size * scale, size) if down else (size, size * scale)
            arrays[f"constant.{prefix}{axis}"] = resize_matrix(*shape).astype(np.float32)
    arrays["constant.step"] = np.asarray(
        1 / make_physics(config.physics, scale=scale).squared_norm((1, *lr.shape[1:]))
    )[0]
    np.savez(folder / f"{name}.npz", **arrays)  # pyright: ignore[reportArgumentType]
    (folder / f"{name}.json").write_text(json.dumps({"config": config_to_dict(config), "all_stages": all_stages}))


class TorchProcess:
    """The twin, in its own process; one question a line, one answer a line."""

    def __init__(self, python: str, folder: Path):
        command = [python, str(Path(__file__).with_name("torch_twin.py")), str(folder)]
        # The twin must not import what lies beside it, nor what this Python was told to.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, question: str) -> dict[str, Any]:
        """Sends a question, waits for the answer."""
        assert self.process.stdin
        assert self.process.stdout
        print(question, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"the PyTorch process ended at {question!r}; its message is above")
        return json.loads(answer)

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def timed(run: Callable[[], Any]) -> float:
    """Median seconds of the calls in one turn of about a second.

    The first call is left out if there are others: the caches, and for a while the cores (OpenMP waits actively),
    belong to the process whose turn it was before.
    """
    times, begin = [], time.perf_counter()
    while not times or time.perf_counter() - begin < TURN_SECONDS:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:] or times)


def make_matmul() -> Callable[[], Any]:
    """The yardstick: 2048 x 2048, float32."""
    square = jnp.asarray(np.random.default_rng(0).standard_normal((2048, 2048)), jnp.float32)
    multiply = jax.jit(lambda a: a @ a)
    return lambda: multiply(square).block_until_ready()


def take_turns(repeats: int, runs: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Returns the median seconds of each, measured in rounds, so that a slow moment slows all of them."""
    times = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            times[name].append(run())
    return {name: statistics.median(values) for name, values in times.items()}


def compare(ours: float, torch: float | None, **more: Any) -> dict[str, Any]:
    """One row of the results."""
    return {"ours": ours, "torch": torch, "ratio": None if torch is None else ours / torch, **more}


def measure_case(name: str, options, folder: Path) -> tuple[dict[str, Any], float]:
    """Returns the comparison of one whole case, and how long it took to compile."""
    model, lr, hr, all_stages = make_case(name, options.small)
    program, arguments = make_program(model, lr, hr, all_stages, options.plain)
    start = time.perf_counter()
    compiled = program.lower(*arguments).compile()
    compile_seconds = time.perf_counter() - start
    run = make_runner(compiled, arguments)
    output, matmul = run(), make_matmul()
    matmul()
    runs, more, twin = {"ours": lambda: timed(run), "matmul": lambda: timed(matmul)}, {}, None
    if options.torch_python:
        write_case(folder, name, options.small)
        twin = TorchProcess(options.torch_python, folder)
        more = twin.ask(f"prepare {name}")
        theirs = np.load(folder / f"{name}.torch.npy")
        more["largest_difference"] = float(np.max(np.abs(theirs - output)))
        more["largest_value"] = float(np.max(np.abs(output)))
        runs |= {"torch": lambda: twin.ask(f"measure {name}")["seconds"]}
        more["torch_start_seconds"] = more.pop("first") - more.pop("seconds")
    seconds = take_turns(options.repeats, runs)
    if twin:
        twin.close()
    flops, peak = count_flops(model, lr, hr is not None), 2 * 2048**3 / seconds["matmul"]
    more |= {"gflops": flops / seconds["ours"] / 1e9, "matmul_gflops": peak / 1e9}
    more["fraction_of_matmul"] = flops / seconds["ours"] / peak
    return compare(seconds["ours"], seconds.get("torch"), **more), compile_seconds


def measure_convolutions(options, folder: Path) -> list[dict[str, Any]]:
    """3x3 convolutions with a zero border, each operation in a program of its own."""
    rows, matmul = [], make_matmul()
    matmul()
    twin = TorchProcess(options.torch_python, folder) if options.torch_python else None
    shapes = [(2, 16, 16, 8)] if options.small else CONVOLUTIONS
    for shape in shapes:
        for operation in OPERATIONS:
            rng = np.random.default_rng(0)
            x, y_bar = (jnp.asarray(rng.standard_normal(shape), jnp.float32) for _ in range(2))
            kernel = jnp.asarray(rng.standard_normal((3, 3, shape[3], shape[3])), jnp.float32)
            function = {
                "forward": lambda x, kernel, _: conv2d(x, kernel),
                "input": lambda x, kernel, y_bar: jax.vjp(lambda x: conv2d(x, kernel), x)[1](y_bar)[0],
                "weight": lambda x, kernel, y_bar: jax.vjp(lambda k: conv2d(x, k), kernel)[1](y_bar)[0],
            }[operation]
            compiled = jax.jit(function).lower(x, kernel, y_bar).compile()

            def run(compiled=compiled, arguments=(x, kernel, y_bar)) -> None:
                compiled(*arguments).block_until_ready()

            run()
            runs = {"ours": lambda run=run: timed(run), "matmul": lambda: timed(matmul)}
            if twin:
                question = f"convolution {operation} {','.join(map(str, shape))}"
                twin.ask(question)
                runs["torch"] = lambda question=question: twin.ask(question)["seconds"]
            seconds = take_turns(options.repeats, runs)
            flops, peak = 2 * 9 * float(np.prod(shape)) * shape[3] / 1e9, 2 * 2048**3 / seconds["matmul"] / 1e9
            row = compare(seconds["ours"], seconds.get("torch"), operation=operation, shape=shape, matmul_gflops=peak)
            row |= {"gflops": flops / row["ours"], "fraction_of_matmul": flops / row["ours"] / peak}
            if twin:
                row["torch_gflops"] = flops / row["torch"]
            rows.append(row)
    if twin:
        twin.close()
    return rows


def measure_memory(name: str, options, folder: Path, memory_format: str) -> dict[str, Any]:
    """Peak memory of one case in fresh processes, two runs each, ours as the commands run (memory kept)."""
    ours = ask_child(options, "memory", name)["megabytes"]
    theirs = None
    if options.torch_python:
        write_case(folder, name, options.small)
        twin = TorchProcess(options.torch_python, folder)
        theirs = twin.ask(f"memory {name} {memory_format}")["megabytes"]
        twin.close()
    return compare(ours, theirs)


def ask_child(options, task: str, name: str, **variables: str) -> dict[str, Any]:
    """Runs this script anew for one figure of a fresh process."""
    command = [sys.executable, __file__, "--child", task, name, *(["--small"] if options.small else [])]
    environment = os.environ | {"ISR_JAX_COMPILATION_CACHE": "off"} | variables
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def child(task: str, name: str, small: bool) -> None:
    """What a fresh process does: the memory of two runs, or the time until the first result."""
    start = time.perf_counter()
    if task == "start":
        use_compilation_cache()
    run = make_runner(*make_program(*make_case(name, small), plain=False))
    run()
    seconds = time.perf_counter() - start
    run()
    lines = Path("/proc/self/status").read_text().splitlines()
    megabytes = next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    print(json.dumps({"seconds": seconds, "megabytes": megabytes}))


def plot(results: dict[str, Any], path: str) -> None:
    """Bars of ours over PyTorch's, a to f."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bars = {name: results[name]["ratio"] for name in "abcdh" if name in results}
    bars |= {f"{'x'.join(map(str, r['shape']))}\n{r['operation']}": r["ratio"] for r in results.get("e", [])}
    bars |= {f"memory {r['case']}": r["ratio"] for r in results.get("f", [])}
    bars = {name: ratio for name, ratio in bars.items() if ratio is not None}
    figure, axes = pyplot.subplots(figsize=(10, 4), layout="constrained")
    axes.bar(list(bars), list(bars.values()), color="tab:blue")
    axes.axhline(1, color="black", linewidth=1)
    axes.set_ylabel("ours / PyTorch (lower is better)")
    axes.tick_params(axis="x", labelrotation=60, labelsize=7)
    figure.savefig(path, dpi=150)


def print_table(results: dict[str, Any]) -> None:
    """Prints the rows that experiments/README.md shows."""

    def show(value: float | None, digits: int = 3) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    print("\n| | | ours | PyTorch | ratio | of the matmul's GFLOP/s |\n| --- | --- | --- | --- | --- | --- |")
    for name, what in WHAT.items():
        if row := results.get(name):
            cells = f"{show(row['ours'])} s | {show(row['torch'])} s | {show(row['ratio'], 2)}"
            print(f"| {name} | {what} | {cells} | {row['fraction_of_matmul']:.2f} of {row['matmul_gflops']:.0f} |")
    for row in results.get("e", []):
        what, theirs = f"{row['operation']}, {tuple(row['shape'])}", show(row.get("torch_gflops"), 0)
        fraction = f"{row['fraction_of_matmul']:.2f} of {row['matmul_gflops']:.0f}"
        print(f"| e | {what} | {row['gflops']:.0f} GFLOP/s | {theirs} | {show(row['ratio'], 2)} | {fraction} |")
    for row in results.get("f", []):
        cells = f"{row['ours']:.0f} MB | {show(row['torch'], 0)} MB | {show(row['ratio'], 2)}"
        print(f"| f | peak memory of {row['case']} | {cells} | |")
    for row in results.get("g", []):
        print(f"| g | compiling {row['case']} | {show(row['ours'], 1)} s | {show(row['torch'], 1)} s | | |")
        if "cold_start" in row:
            times = f"{row['cold_start']:.1f} s, {row['warm_start']:.1f} s"
            print(f"| g | first result of {row['case']}, cache empty and filled | {times} | | | |")


def main() -> None:
    """Reads the command line, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="a Python that has torch")
    parser.add_argument("--json", help="where to write the results")
    parser.add_argument("--plot", help="where to write the picture of the ratios")
    parser.add_argument("--only", default="abcdefgh", help="which measurements, such as ae")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plain", action="store_true", help="without what isr_jax.solver.compilation tells XLA")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try this script")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()
    if options.child:
        return child(*options.child, small=options.small)
    results: dict[str, Any] = {"jax": jax.__version__, "cores": len(os.sched_getaffinity(0))}
    compile_rows, formats = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in "abcdh":
            if name in options.only:
                results[name], seconds = measure_case(name, options, folder)
                formats[name] = results[name].get("memory_format")
                compile_rows.append(compare(seconds, results[name].get("torch_start_seconds"), case=name))
                print(name, json.dumps(results[name]), flush=True)
        if "e" in options.only:
            results["e"] = measure_convolutions(options, folder)
        if "f" in options.only:
            results["f"] = [
                {"case": n, **measure_memory(n, options, folder, formats.get(n) or "channels_last")} for n in "ac"
            ]
        if "g" in options.only:
            results["g"] = compile_rows
            cache = {"ISR_JAX_COMPILATION_CACHE": str(folder / "cache")}
            for row in compile_rows[:1]:
                row["cold_start"] = ask_child(options, "start", row["case"], **cache)["seconds"]
                row["warm_start"] = ask_child(options, "start", row["case"], **cache)["seconds"]
    print_table(results)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n")
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
