"""The cost of USRNet, of random weights, in PyTorch: its network and its solves, written from its paper's figure 2.

    python usrnet_twin.py SCALE SIZE TURNS

Runs under any Python with torch; it needs neither jax nor isr_jax. `known_blur_cost.py` starts it. Prints one line of
JSON: parameters, multiply-adds of the convolutions per HR pixel, and the seconds of each turn, for one picture of SIZE
x SIZE HR pixels.

References: Zhang, Van Gool & Timofte 2020 (arXiv 2003.10428).
"""

import itertools
import json
import sys
import time

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

ITERATIONS = 8
WIDTHS = (64, 128, 256, 512)


def convolution(inputs: int, outputs: int) -> nn.Conv2d:
    """3x3, without bias."""
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(convolution(width, width), nn.ReLU(), convolution(width, width))

    def forward(self, x):
        """Adds what the convolutions make of x."""
        return x + self.body(x)


class Prior(nn.Module):
    """A U-Net of residual blocks, two on each level: the picture and a plane of the noise level in, a picture out."""

    def __init__(self):
        super().__init__()
        pairs = list(itertools.pairwise(WIDTHS))
        self.head = convolution(4, WIDTHS[0])
        self.down = nn.ModuleList(
            nn.Sequential(Residual(a), Residual(a), nn.Conv2d(a, b, 2, stride=2, bias=False)) for a, b in pairs
        )
        self.body = nn.Sequential(Residual(WIDTHS[-1]), Residual(WIDTHS[-1]))
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(b, a, 2, stride=2, bias=False), Residual(a), Residual(a))
            for a, b in reversed(pairs)
        )
        self.tail = convolution(WIDTHS[0], 3)

    def forward(self, x):
        """Height and width are multiples of 8."""
        levels = [self.head(x)]
        for level in self.down:
            levels.append(level(levels[-1]))
        x = self.body(levels[-1])
        for level, beside in zip(self.up, reversed(levels), strict=False):
            x = level(x + beside)
        return self.tail(x + levels[0])


def solve(fourier, fourier_y, z, weight: float, scale: int):
    """One data step in closed form, equation 7 of the paper; `fourier` is of the kernel, `fourier_y` of H^T y."""

    def folded(a):  # the mean over the blocks that decimation lays on each other
        n, c, h, w = a.shape
        return a.reshape(n, c, scale, h // scale, scale, w // scale).mean((2, 4))

    r = fourier_y + torch.fft.fftn(weight * z, dim=(-2, -1))
    inverse = folded(fourier * r) / (folded(fourier.abs() ** 2) + weight)
    return torch.fft.ifftn((r - fourier.conj() * inverse.repeat(1, 1, scale, scale)) / weight, dim=(-2, -1)).real


def main() -> None:
    """Counts, then measures."""
    scale, size, turns = map(int, sys.argv[1:])
    prior, macs = Prior().eval(), 0

    def count(layer, inputs, output):
        nonlocal macs
        transposed = isinstance(layer, nn.ConvTranspose2d)
        pixels = (inputs[0] if transposed else output)[0, 0].numel()
        macs += layer.weight.numel() * pixels

    hooks = [m.register_forward_hook(count) for m in prior.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    side = -(-size // 8) * 8
    with torch.inference_mode():
        prior(torch.zeros(1, 4, side, side))
        for hook in hooks:
            hook.remove()
        y = torch.rand(1, 3, size // scale, size // scale)
        size = y.shape[-1] * scale
        kernel = torch.zeros(1, 1, size, size)
        kernel[..., :25, :25] = 1 / 625

        def run() -> None:
            fourier = torch.fft.fftn(kernel, dim=(-2, -1))
            spread = torch.zeros(1, 3, size, size)
            spread[..., ::scale, ::scale] = y
            fourier_y = fourier.conj() * torch.fft.fftn(spread, dim=(-2, -1))
            x = nn.functional.interpolate(y, scale_factor=scale, mode="nearest")
            for _ in range(ITERATIONS):
                x = solve(fourier, fourier_y, x, 1e-2, scale)
                padded = nn.functional.pad(x, (0, side - size, 0, side - size), mode="replicate")
                plane = torch.full((1, 1, side, side), 0.01)
                x = prior(torch.cat([padded, plane], 1))[..., :size, :size]

        seconds = []
        for _ in range(turns + 1):
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    parameters = sum(p.numel() for p in prior.parameters())
    macs_per_pixel = ITERATIONS * macs / side**2
    print(json.dumps({"parameters": parameters, "macs_per_pixel": macs_per_pixel, "seconds": seconds[1:]}))


if __name__ == "__main__":
    main()
