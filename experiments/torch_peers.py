"""Two networks that other programs use, in PyTorch, for `large_pictures.py`: what a picture of some size costs them.

    python torch_peers.py NETWORK SCALE PICTURE.npy

Runs under any Python with torch and numpy; it needs neither jax nor isr_jax. The weights are random: the time does not
depend on them. The picture is uint8 (H, W, 3), computed as a whole, from bytes to bytes. Prints one line of JSON.

References: SRVGGNetCompact of Real-ESRGAN (Wang et al. 2021); EDSR (Lim et al. 2017), its residual blocks.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

FEATURES = 64


def conv(inputs: int, outputs: int) -> nn.Module:
    """All of both networks' are 3x3."""
    return nn.Conv2d(inputs, outputs, 3, padding=1)


class Compact(nn.Module):
    """Convolutions and PReLUs at LR resolution, added to the nearest enlargement."""

    def __init__(self, scale: int, convolutions: int = 16):
        super().__init__()
        hidden = [part for _ in range(convolutions) for part in (conv(FEATURES, FEATURES), nn.PReLU(FEATURES))]
        self.body = nn.Sequential(conv(3, FEATURES), nn.PReLU(FEATURES), *hidden, conv(FEATURES, 3 * scale**2))
        self.shuffle, self.scale = nn.PixelShuffle(scale), scale

    def forward(self, x: Tensor) -> Tensor:
        """(1, 3, h, w) -> (1, 3, scale h, scale w), 0..1."""
        return self.shuffle(self.body(x)) + nn.functional.interpolate(x, scale_factor=self.scale)


class Edsr(nn.Module):
    """Residual blocks at LR resolution, of which EDSR's baseline has 16; half of them cost what isr-lite costs."""

    def __init__(self, scale: int, blocks: int = 8):
        super().__init__()
        self.head, self.tail = conv(3, FEATURES), conv(FEATURES, 3 * scale**2)
        self.blocks = nn.ModuleList(
            nn.Sequential(conv(FEATURES, FEATURES), nn.ReLU(inplace=True), conv(FEATURES, FEATURES))
            for _ in range(blocks)
        )
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, x: Tensor) -> Tensor:
        """(1, 3, h, w) -> (1, 3, scale h, scale w), 0..1."""
        x = first = self.head(x)
        for block in self.blocks:
            x = x + block(x)
        return self.shuffle(self.tail(x + first))


PEERS = {"SRVGGNetCompact": Compact, "EDSR": Edsr}


def main(name: str, scale: int, file: Path) -> None:
    """Measures one network on one picture."""
    network = PEERS[name](scale).eval().to(memory_format=torch.channels_last)
    pixels = np.load(file)
    wall, cpu = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        x = torch.from_numpy(pixels).movedim(2, 0)[None].to(torch.float32, memory_format=torch.channels_last) / 255
        result = (network(x) * 255).round_().clamp_(0, 255).to(torch.uint8)
    running, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    assert result.shape[2:] == (scale * pixels.shape[0], scale * pixels.shape[1])
    peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024
    kilo_macs = sum(p.numel() for p in network.parameters() if p.dim() == 4) / scale**2 / 1000
    row = {"running": running, "cpu_seconds": cpu_seconds, "peak_mib": peak, "kilo_macs": kilo_macs}
    print(json.dumps(row))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
