"""The same network in PyTorch, written from the method's equations: what `benchmark_cpu.py` measures us against.

Runs under any Python with torch and numpy; it needs neither jax nor isr_jax. `benchmark_cpu.py` starts it as

    python torch_twin.py FOLDER

and writes FOLDER/CASE.npz (weights by their names in our model file, inputs, constants) and FOLDER/CASE.json (the
model's configuration). Then it sends one command a line, each answered by one line of JSON:

    prepare CASE          build it, choose the faster memory format, write CASE.torch.npy -> {"memory_format", ...}
    measure CASE          run it for a second, or once                                            -> {"seconds"}
    convolution OP SHAPE  forward, input or weight; SHAPE is N,H,W,C; 3x3                        -> {"seconds"}
    matmul                2048 x 2048                                                            -> {"seconds"}
    memory                                                                                       -> {"megabytes"}
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

TURN_SECONDS = 1.0  # as in benchmark_cpu.py


class Twin(nn.Module):
    """ISRResCNet as configured by the JSON form of `isr_jax.config.ModelConfig`; pictures NCHW, 0..255."""

    def __init__(self, config: dict, arrays: dict[str, np.ndarray]):
        super().__init__()
        self.config = config
        self.names = {name: name.replace(".", "_") for name in arrays if not name.startswith("constant.")}
        for name, key in self.names.items():
            array = torch.tensor(arrays[name])
            if name.endswith("kernel"):  # (stages,) H W I O -> (stages,) O I H W
                array = array.movedim((-4, -3), (-2, -1)).transpose(-4, -3).contiguous()
            self.register_parameter(key, nn.Parameter(array))
        for name, array in arrays.items():
            if name.startswith("constant."):
                self.register_buffer(name.replace(".", "_"), torch.tensor(array))

    def parameter(self, name: str, stage: int) -> Tensor:
        """One stage's value of a parameter, or the one all stages share."""
        value = getattr(self, self.names[name])
        per_stage = self.config["per_stage"] or not name.startswith("prior.")
        return value[stage] if per_stage else value

    def kernels(self, stage: int) -> dict[str, Tensor]:
        """All kernels of one stage's network, weight-normalised where so configured: once, not at every use."""
        folded = {}
        for name in self.names:
            if name.startswith("prior.") and name.endswith(".kernel"):
                layer = name.removesuffix(".kernel")
                kernel = self.parameter(name, stage)
                if layer + ".gain" in self.names:
                    axis = 1 if layer == "prior.decoder" else 0
                    shape = [-1 if a == axis else 1 for a in range(4)]
                    norm = kernel.square().sum([a for a in range(4) if a != axis], keepdim=True).sqrt()
                    kernel = kernel * (self.parameter(layer + ".gain", stage).reshape(shape) / norm)
                folded[layer] = kernel
        return folded

    def forward(self, lr: Tensor, all_stages: bool = False) -> Tensor:
        """HR pictures from LR ones; of every stage, with a leading axis, if so asked."""
        config = self.config
        x = previous = self.start(lr)
        noise_std = self.noise_std(lr).detach() if config["projection"] else None
        features = lr.new_zeros(lr.shape[0], config["prior"]["features"], *lr.shape[2:])
        kernels = self.kernels(0)
        iterates = []
        for stage in range(config["num_stages"]):
            if config["per_stage"]:
                kernels = self.kernels(stage)
            z = x
            if config["extrapolation"] and stage > 0:
                z = x + self.parameter("log_momentum", stage).exp() * (x - previous)
            residual = self.down(z) - lr
            step = self.constant_step * (self.parameter("step", stage) if config["learned_step"] else 1)
            u = z - step * self.up(residual)
            noise, features = self.erd(u, residual, features, kernels, stage)
            if config["projection"]:
                radius = self.parameter("log_radius", stage).exp() * noise_std * (noise[0].numel() - 1) ** 0.5
                squared = noise.square().sum((1, 2, 3))
                noise = noise * (radius / torch.maximum(squared, radius.square()).sqrt())[:, None, None, None]
            previous, x = x, u - noise
            if config["clip"]:
                x = x.clamp(0, 255)
            iterates.append(x)
        if config["final_data_step"]:
            x = x - self.constant_step * self.up(self.down(x) - lr)
        return torch.stack(iterates) if all_stages else x

    def erd(self, image: Tensor, residual: Tensor, carried: Tensor, kernels: dict, stage: int):
        """The noise estimate, and the last features."""
        erd, scale = self.config["prior"], self.config["scale"]
        at_lr = erd["resolution"] == "lr"

        def convolve(x: Tensor, layer: str, border: str = erd["border"]) -> Tensor:
            kernel = kernels[layer]
            pad = kernel.shape[-1] // 2
            if border == "reflect" and pad:
                x, pad = F.pad(x, (pad, pad, pad, pad), mode="reflect"), 0
            return F.conv2d(x, kernel, self.parameter(layer + ".bias", stage), padding=pad)

        def prelu(x: Tensor, layer: str) -> Tensor:
            return F.prelu(x, self.parameter(layer + ".slope", stage))

        def blocks(x: Tensor) -> Tensor:
            for i in range(erd["num_blocks"]):
                name = f"prior.blocks.{i}."
                y = convolve(prelu(x, name + "prelu1"), name + "conv1")
                y = convolve(prelu(y, name + "prelu2"), name + "conv2")
                x = x + y if erd["first_shortcut"] or i else y
            return x

        x = image
        if at_lr:
            parts = [space_to_depth(image, scale) / 255, residual / 255]
            x = torch.cat(parts + ([carried] if erd["carry_features"] else []), 1)
        encoded = hidden = convolve(x, "prior.encoder")
        if not erd["feedback_steps"]:
            hidden = blocks(encoded)
        for _ in range(erd["feedback_steps"]):
            both = torch.cat([hidden, hidden if erd["feedback_input"] == "hidden" else encoded], 1)
            hidden = blocks(convolve(prelu(both, "prior.compress_prelu"), "prior.compress"))
        noise = convolve(hidden, "prior.decoder", "zero")
        return (depth_to_space(noise, scale) * 255 if at_lr else noise), hidden

    def down(self, x: Tensor) -> Tensor:
        """H."""
        scale = self.config["scale"]
        if self.config["physics"] == "released_bicubic":
            return x[:, :, ::scale, ::scale]
        return self.constant_rows @ x @ self.constant_cols.T

    def up(self, y: Tensor) -> Tensor:
        """H^T, or what the released code has in its place."""
        if self.config["physics"] != "released_bicubic":
            return self.constant_rows.T @ y @ self.constant_cols
        # Catmull-Rom, one 4x4 filter for each output phase; constant.phases already has the released code's swap.
        scale = self.config["scale"]
        n, c, h, w = y.shape
        padded = F.pad(y, (1, 2, 1, 2), mode="replicate").reshape(n * c, 1, h + 3, w + 3)
        return F.pixel_shuffle(F.conv2d(padded, self.constant_phases), scale).reshape(n, c, h * scale, w * scale)

    def start(self, lr: Tensor) -> Tensor:
        """The initial estimate."""
        if self.config["physics"] != "released_bicubic":
            return self.constant_start_rows @ lr @ self.constant_start_cols.T
        n, _, h, w = lr.shape
        rows, cols = (torch.linspace(-1, 1, size * self.config["scale"]) for size in (h, w))
        y, x = torch.meshgrid(rows, cols, indexing="ij")
        grid = torch.stack([x, y], -1).expand(n, -1, -1, -1)
        return F.grid_sample(lr, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def noise_std(self, lr: Tensor) -> Tensor:
        """Noise level per picture, from the median of the diagonal wavelet coefficients."""
        n, c, h, w = lr.shape
        taps = self.constant_high_pass
        pad = len(taps) // 2
        x = F.pad(lr, (pad, pad, pad, pad), mode="reflect").reshape(n * c, 1, h + 2 * pad, w + 2 * pad)
        x = F.conv2d(x, taps.reshape(1, 1, -1, 1), stride=(2, 1))
        x = F.conv2d(x, taps.reshape(1, 1, 1, -1), stride=(1, 2))
        return x.abs().reshape(n, c, -1).median(2).values.mean(1) / 0.6745


def space_to_depth(x: Tensor, scale: int) -> Tensor:
    """Blocks of pixels to channels, ordered (row, column, channel)."""
    n, c, h, w = x.shape
    x = x.reshape(n, c, h // scale, scale, w // scale, scale)
    return x.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // scale, w // scale)


def depth_to_space(x: Tensor, scale: int) -> Tensor:
    """The inverse of `space_to_depth`."""
    n, d, h, w = x.shape
    x = x.reshape(n, scale, scale, d // scale**2, h, w)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(n, d // scale**2, h * scale, w * scale)


class Case:
    """One measurement: an inference if FOLDER/CASE.npz has no input.hr, else a training step."""

    def __init__(self, folder: Path, name: str, memory_format: torch.memory_format):
        case = json.loads((folder / f"{name}.json").read_text())
        arrays = dict(np.load(folder / f"{name}.npz"))

        def picture(key: str) -> Tensor | None:
            if key not in arrays:
                return None
            return torch.tensor(arrays.pop(key)).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)

        self.lr, self.hr, self.all_stages = picture("input.lr"), picture("input.hr"), case["all_stages"]
        self.model = Twin(case["config"], arrays)
        for parameter in self.model.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.contiguous(memory_format=memory_format)
        self.adam = torch.optim.Adam(self.model.parameters(), lr=1e-4)

    def run(self) -> np.ndarray:
        """Returns the pictures NHWC, or the loss before the step."""
        if self.hr is None:
            with torch.inference_mode():
                return self.model(self.lr).permute(0, 2, 3, 1).numpy()
        self.adam.zero_grad()
        loss = (self.model(self.lr, self.all_stages) - self.hr).abs().mean()
        loss.backward()
        self.adam.step()
        return np.asarray(loss.item())


FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def prepare(folder: Path, name: str) -> tuple[Case, dict]:
    """Builds a case in both memory formats, keeps the faster one, writes its output."""
    seconds, first, cases = {}, {}, {}
    for label, memory_format in FORMATS.items():
        cases[label] = case = Case(folder, name, memory_format)
        start = time.perf_counter()
        output = case.run()
        first[label] = time.perf_counter() - start
        seconds[label] = timed(case.run)[0]
        np.save(folder / f"{name}.{label}.npy", output)
    best = min(seconds, key=seconds.__getitem__)
    os.replace(folder / f"{name}.{best}.npy", folder / f"{name}.torch.npy")
    return cases[best], {"memory_format": best, "first": first[best], "seconds": seconds[best]}


def make_convolution(operation: str, shape: tuple[int, ...], memory_format: torch.memory_format):
    """Returns the function that does one 3x3 convolution, or one of its two gradients."""
    n, h, w, c = shape
    x = torch.randn(n, c, h, w).contiguous(memory_format=memory_format)
    y = torch.randn(n, c, h, w).contiguous(memory_format=memory_format)
    kernel = torch.randn(c, c, 3, 3).contiguous(memory_format=memory_format)
    if operation == "forward":
        return lambda: F.conv2d(x, kernel, padding=1)
    wanted = [operation == "input", operation == "weight", False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(y, x, kernel, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1, wanted)


def timed(function):
    """Median seconds and the last result of the calls in one turn, as `benchmark_cpu.timed`."""
    times, begin = [], time.perf_counter()
    while not times or time.perf_counter() - begin < TURN_SECONDS:
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:] or times), result


def peak_megabytes() -> float:
    """The most memory this process has held (Linux): VmHWM, which unlike ru_maxrss does not count the parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Answers questions until standard input ends."""
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    ready: dict = {}
    square = torch.randn(2048, 2048)
    for line in sys.stdin:
        command, *arguments = line.split()
        key = " ".join(arguments)
        if command == "prepare":
            ready.clear()  # one case at a time: the activations of two do not fit everywhere
            ready[key], answer = prepare(folder, key)
        elif command == "memory":
            if arguments:  # of a fresh process: this memory format only
                case = Case(folder, arguments[0], FORMATS[arguments[1]])
                case.run()
                case.run()
            answer = {"megabytes": peak_megabytes()}
        elif command == "measure":
            answer = {"seconds": timed(ready[key].run)[0]}
        elif command == "matmul":
            answer = {"seconds": timed(lambda: square @ square)[0]}
        elif command == "convolution":
            if key not in ready:
                shape = tuple(map(int, arguments[1].split(",")))
                functions = [make_convolution(arguments[0], shape, f) for f in FORMATS.values()]
                ready[key] = min(functions, key=lambda f: timed(f)[0])
            answer = {"seconds": timed(ready[key])[0]}
        else:
            raise SystemExit(f"unknown command {command}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
