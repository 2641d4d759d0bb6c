"""Makes the file that ``isr-jax convert --golden`` compares with: what PyTorch computes from a checkpoint.

    python experiments/make_golden.py CHECKPOINT.pth OUT.npz [--scale 4] [--mode bicubic] [--feedback-steps 4]
                                      [--image LR.npy] [--kernel KERNEL.npy]

Needs torch and numpy, not this package: run it where torch is installed, convert anywhere. The network is written from
the method's equations in PyTorch's own layers, and reads the state dict by PyTorch's own names: it shares neither code
nor the table of names with what it certifies. (`torch_twin.py` is fed with converted weights; it could not see a
mistake in the conversion.) LR.npy is (N, height, width, channels), uint8; without it a random picture is made.
KERNEL.npy, for ``--mode kernel``, is (channels, 1, k, k); without it, a random one.
"""

# pyright: reportMissingImports=false
# (torch is not a dependency of the project)

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Daubechies 7, decomposition high-pass (Daubechies 1992, table 6.1).
DB7_HIGH_PASS = [
    -0.07785205408500918, 0.3965393194819173, -0.7291320908462351, 0.4697822874051931, 0.14390600392856498,
    -0.22403618499387498, -0.07130921926683026, 0.08061260915108308, 0.03802993693501441, -0.01657454163066688,
    -0.01255099855609984, 0.0004295779729213665, 0.0018016407040474908, 0.00035371379997452024,
]  # fmt: skip

State = dict[str, Tensor]


def read_state(path: Path) -> State:
    """Returns the state dict without wrappers and prefixes, weight normalisation spelled the old way."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        state = load_file(path)
    else:
        state = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("params_ema", "model_state_dict", "state_dict", "params"):
        if isinstance(state.get(wrapper), dict):
            state = state[wrapper]
            break
    renamed = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        key = key.replace("parametrizations.weight.original0", "weight_g")
        renamed[key.replace("parametrizations.weight.original1", "weight_v")] = value.float()
    return renamed


class Network:
    """The encoder - resnet - decoder network of a state dict."""

    def __init__(self, state: State, feedback_steps: int):
        self.state, self.feedback_steps = state, feedback_steps
        gan = "model.conv1.bias" in state
        self.encoder, self.blocks = ("model.conv1", "model.layer1") if gan else ("model.conv", "model.resblocks")
        self.num_blocks = len({key.split(".")[2] for key in state if key.startswith(self.blocks + ".")})

    def weight(self, name: str) -> Tensor:
        """Returns a layer's weight, normalised over dimension 0 where it is weight-normalised."""
        if f"{name}.weight" in self.state:
            return self.state[f"{name}.weight"]
        return torch._weight_norm(self.state[f"{name}.weight_v"], self.state[f"{name}.weight_g"], 0)

    def convolve(self, x: Tensor, name: str) -> Tensor:
        """Convolves with a reflected border."""
        weight = self.weight(name)
        pad = weight.shape[-1] // 2
        if pad:
            x = F.pad(x, (pad, pad, pad, pad), mode="reflect")
        return F.conv2d(x, weight, self.state[f"{name}.bias"])

    def run_blocks(self, x: Tensor) -> Tensor:
        """Runs the residual blocks, of which the first does not add its input."""
        for i in range(self.num_blocks):
            name = f"{self.blocks}.{i}"
            y = self.convolve(F.prelu(x, self.state[f"{name}.relu1.weight"]), f"{name}.conv1")
            y = self.convolve(F.prelu(y, self.state[f"{name}.relu2.weight"]), f"{name}.conv2")
            x = x + y if i else y
        return x

    def __call__(self, image: Tensor, radius: Tensor) -> Tensor:
        """Returns the noise estimate, projected on the ball of that radius."""
        x = self.convolve(image, self.encoder)
        if self.feedback_steps == 0:
            x = self.run_blocks(x)
        for _ in range(self.feedback_steps):
            both = F.prelu(torch.cat([x, x], 1), self.state["model.fbblock.prelu.weight"])
            x = self.run_blocks(self.convolve(both, "model.fbblock.compress_in"))
        weight = self.weight("model.conv_out")
        noise = F.conv_transpose2d(x, weight, self.state["model.conv_out.bias"], padding=weight.shape[-1] // 2)
        norm = noise.square().sum((1, 2, 3)).sqrt()
        return noise * (radius / torch.maximum(norm, radius))[:, None, None, None]


def estimate_sigma(images: Tensor) -> Tensor:
    """Returns the noise level by the lower median of the db7 wavelet coefficients."""
    n, c, h, w = images.shape
    taps = torch.tensor(DB7_HIGH_PASS)
    x = F.pad(images / 255, (7, 7, 7, 7), mode="reflect").reshape(n * c, 1, h + 14, w + 14)
    x = F.conv2d(x, taps.reshape(1, 1, -1, 1), stride=(2, 1))
    x = F.conv2d(x, taps.reshape(1, 1, 1, -1), stride=(1, 2))
    return 255 * x.abs().reshape(n, c, -1).median(2).values.mean(1) / 0.6745


def sample_from_corners(x: Tensor, height: int, width: int) -> Tensor:
    """Bilinear sampling at positions from -1 to 1, read as the outer edges of the corner pixels."""
    y, x_ = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    grid = torch.stack([x_, y], -1).expand(x.shape[0], -1, -1, -1)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def catmull_rom(t: float) -> Tensor:
    """Returns the weights of the samples at -1, 0, 1, 2 for a position t in 0..1."""
    return torch.tensor([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]) / 2


def bicubic_up(y: Tensor, s: int) -> Tensor:
    """Top-left aligned Catmull-Rom with the two fractions swapped; phase (p, q) is one 4x4 filter."""
    n, c, h, w = y.shape
    phases = torch.stack([torch.outer(catmull_rom(q / s), catmull_rom(p / s)) for p in range(s) for q in range(s)])
    padded = F.pad(y, (1, 2, 1, 2), mode="replicate").reshape(n * c, 1, h + 3, w + 3)
    return F.pixel_shuffle(F.conv2d(padded, phases[:, None]), s).reshape(n, c, h * s, w * s)


def gradient(mode: str, x: Tensor, y: Tensor, s: int, kernel: Tensor | None) -> Tensor:
    """Returns the released data term's gradient at x."""
    h, w = y.shape[2:]
    if mode == "bicubic":
        return bicubic_up(x[:, :, ::s, ::s] - y, s)
    if mode == "bilinear":
        return sample_from_corners(sample_from_corners(x, h, w) - y, h * s, w * s)
    if mode == "normal":
        result = torch.zeros_like(x)
        result[:, :, 1::s, 1::s] = x[:, :, 1::s, 1::s] - y
        return result
    assert kernel is not None
    c, pad = x.shape[1], kernel.shape[-1] // 2
    residual = F.conv2d(x, kernel, stride=s, padding=pad, groups=c) - y
    back = F.conv_transpose2d(residual, kernel, stride=s, groups=c)
    back = F.pad(back, (0, max(0, w * s - back.shape[3]), 0, max(0, h * s - back.shape[2])))
    return back[:, :, : h * s, : w * s]


@torch.inference_mode()
def make_golden(state: State, lr: np.ndarray, scale: int, mode: str, feedback_steps: int, kernel: np.ndarray | None):
    """Returns the arrays of the golden file, pictures NHWC."""
    gan = "model.conv1.bias" in state
    has_feedback = any(key.startswith("model.fbblock.") for key in state)
    network = Network(state, feedback_steps if has_feedback else 0)
    y = torch.tensor(lr).permute(0, 3, 1, 2).float()
    n, c, h, w = y.shape
    size, weights = (h * scale, w * scale), None if kernel is None else torch.tensor(kernel)
    x = F.interpolate(y, size=size, mode="bilinear", align_corners=False) if gan else sample_from_corners(y, *size)
    sigma = estimate_sigma(x if gan else y)
    radii = [alpha.exp() * sigma * math.sqrt(c * h * w * scale**2 - 1) for alpha in state["alpha"]]
    data_gradient: Callable[[Tensor], Tensor] = lambda z: gradient(mode, z, y, scale, weights)  # noqa: E731
    golden: dict[str, Tensor] = {"init": x, "erd_in": 255 * torch.rand(n, c, *size)}
    golden["erd"] = network(golden["erd_in"], radii[0])
    if gan:
        golden["output"] = (x - network(x, radii[0])).clamp(0, 255)
    else:
        golden["grad_in"] = 255 * torch.rand(n, c, *size)
        golden["grad"] = data_gradient(golden["grad_in"])
        previous, iterates = x, []
        for k, radius in enumerate(radii):
            z = x + state["w"][k].exp() * (x - previous) if k else x
            u = z - data_gradient(z)
            previous, x = x, (u - network(u, radius)).clamp(0, 255)
            iterates.append(x)
        golden["iterates"] = torch.stack(iterates)
    arrays = {name: value.movedim(-3, -1).numpy() for name, value in golden.items()}
    arrays |= {"lr": lr, "scale": np.array(scale), "sigma": sigma.numpy()}
    if not gan:
        arrays["mode"] = np.array(mode)
    if kernel is not None:
        arrays["kernel"] = kernel
    return arrays


def main() -> None:
    """Reads the arguments, writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--mode", choices=("bicubic", "bilinear", "kernel", "normal"), default="bicubic")
    parser.add_argument("--feedback-steps", type=int, default=4)
    parser.add_argument("--image", type=Path)
    parser.add_argument("--kernel", type=Path)
    options = parser.parse_args()
    state = read_state(options.checkpoint)
    channels = state["model.conv_out.bias"].numel()
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    lr = np.load(options.image) if options.image else rng.integers(0, 256, (1, 16, 20, channels), np.uint8)
    kernel = None
    if options.mode == "kernel" and "model.conv1.bias" not in state:
        kernel = rng.uniform(size=(channels, 1, 5, 5)).astype(np.float32)
        kernel = np.load(options.kernel) if options.kernel else kernel / kernel.sum((2, 3), keepdims=True)
    arrays = make_golden(state, lr, options.scale, options.mode, options.feedback_steps, kernel)
    np.savez_compressed(options.out, **arrays)
    print(f"wrote {options.out}: {', '.join(f'{name} {array.shape}' for name, array in arrays.items())}")


if __name__ == "__main__":
    main()
