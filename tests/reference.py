"""The solver written out in NumPy, float64, straight from its definition: what the JAX package is compared with.

Slow and plain on purpose, and sharing no code with the package: loops over output pixels, taps and stages.
"""

import numpy as np


def catmull_rom(t):
    """Weights of the samples at -1, 0, 1, 2 for a position t between 0 and 1."""
    return np.array(
        [
            (-(t**3) + 2 * t**2 - t) / 2,
            (3 * t**3 - 5 * t**2 + 2) / 2,
            (-3 * t**3 + 4 * t**2 + t) / 2,
            (t**3 - t**2) / 2,
        ]
    )


def released_bicubic_up(y, s):
    h, w, c = y.shape
    out = np.zeros((h * s, w * s, c))
    for i in range(h * s):
        for j in range(w * s):
            for b, row_weight in enumerate(catmull_rom((j % s) / s)):  # swapped, as released
                for a, col_weight in enumerate(catmull_rom((i % s) / s)):
                    row = min(max(i // s + b - 1, 0), h - 1)
                    col = min(max(j // s + a - 1, 0), w - 1)
                    out[i, j] += row_weight * col_weight * y[row, col]
    return out


def bilinear_grid(x, height, width, align_corners=False):
    h, w, c = x.shape

    def positions(n_in, n_out):
        grid = np.linspace(-1, 1, n_out)
        return (grid + 1) / 2 * (n_in - 1) if align_corners else ((grid + 1) * n_in - 1) / 2

    out = np.zeros((height, width, c))
    for i, v in enumerate(positions(h, height)):
        for j, u in enumerate(positions(w, width)):
            for row in (int(np.floor(v)), int(np.floor(v)) + 1):
                for col in (int(np.floor(u)), int(np.floor(u)) + 1):
                    if 0 <= row < h and 0 <= col < w:
                        out[i, j] += (1 - abs(v - row)) * (1 - abs(u - col)) * x[row, col]
    return out


def released_kernel_down(x, k, s):
    rows, cols, _ = k.shape
    padded = np.pad(x, ((rows // 2, rows // 2), (cols // 2, cols // 2), (0, 0)))
    h, w = x.shape[0] // s, x.shape[1] // s
    return np.array(
        [[np.sum(padded[i * s : i * s + rows, j * s : j * s + cols] * k, (0, 1)) for j in range(w)] for i in range(h)]
    )


def released_kernel_up(y, k, s):
    h, w, c = y.shape
    rows, cols, _ = k.shape
    full = np.zeros((h * s + rows, w * s + cols, c))
    for i in range(h):
        for j in range(w):
            full[i * s : i * s + rows, j * s : j * s + cols] += y[i, j] * k
    return full[: h * s, : w * s]


def data_term(mode, s, kernel=None):
    """(down, up) of a released observation model, on single images (H, W, C)."""

    def decimation_up(y):
        x = np.zeros((y.shape[0] * s, y.shape[1] * s, y.shape[2]))
        x[1::s, 1::s] = y
        return x

    return {
        "released_bicubic": (lambda x: x[::s, ::s], lambda y: released_bicubic_up(y, s)),
        "released_bilinear": (
            lambda x: bilinear_grid(x, x.shape[0] // s, x.shape[1] // s),
            lambda y: bilinear_grid(y, y.shape[0] * s, y.shape[1] * s),
        ),
        "released_kernel": (
            lambda x: released_kernel_down(x, kernel, s),
            lambda y: released_kernel_up(y, kernel, s),
        ),
        "released_decimation": (lambda x: x[1::s, 1::s], decimation_up),
    }[mode]


def noise_std(y, high_pass):
    d = y.astype(np.float64)
    for axis in (0, 1):
        width = [(0, 0)] * 3
        width[axis] = (7, 7)
        d = np.moveaxis(np.pad(d, width, mode="reflect"), axis, 0)
        d = np.array([np.tensordot(high_pass, d[i : i + 14], 1) for i in range(0, len(d) - 13, 2)])
        d = np.moveaxis(d, 0, axis)
    d = np.abs(d).reshape(-1, y.shape[2])
    return np.mean(np.sort(d, axis=0)[(len(d) - 1) // 2]) / 0.6745


def conv(x, kernel, bias, border):
    k = kernel.shape[0]
    p = k // 2
    padded = np.pad(x, ((p, p), (p, p), (0, 0)), mode="reflect" if border == "reflect" else "constant")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k), axis=(0, 1))  # h, w, c, a, b
    return np.einsum("hwcab,abco->hwo", windows, kernel) + bias


def weight_norm(v, gain, axis):
    norm = np.sqrt(np.sum(v**2, axis=tuple(a for a in range(4) if a != axis), keepdims=True))
    shape = [1] * 4
    shape[axis] = -1
    return v / norm * gain.reshape(shape)


def prelu(x, slope):
    return np.maximum(x, 0) + slope * np.minimum(x, 0)


def erd(p, x, *, feedback_steps, feedback_input="hidden", num_blocks):
    """The released network on one image; `p` holds the parameters by name."""

    def layer(y, name, border, axis=3):
        return conv(y, weight_norm(p[name + ".kernel"], p[name + ".gain"], axis), p[name + ".bias"], border)

    def blocks(h):
        for i in range(num_blocks):
            name = f"prior.blocks.{i}"
            y = layer(prelu(h, p[name + ".prelu1.slope"]), name + ".conv1", "reflect")
            y = layer(prelu(y, p[name + ".prelu2.slope"]), name + ".conv2", "reflect")
            h = y if i == 0 else h + y
        return h

    encoded = layer(x, "prior.encoder", "reflect")
    h = blocks(encoded) if feedback_steps == 0 else encoded
    for _ in range(feedback_steps):
        both = np.concatenate([h, h if feedback_input == "hidden" else encoded], axis=-1)
        h = blocks(layer(prelu(both, p["prior.compress_prelu.slope"]), "prior.compress", "zero"))
    return layer(h, "prior.decoder", "zero", axis=2)


def solve(p, y, *, mode, s, num_stages, sigma, kernel=None, **network):
    """All iterates of one image (H, W, C), with the released start."""
    down, up = data_term(mode, s, kernel)
    x = previous = bilinear_grid(y, y.shape[0] * s, y.shape[1] * s)
    iterates = []
    for k in range(num_stages):
        z = x + np.exp(p["log_momentum"][k]) * (x - previous) if k else x
        u = z - up(down(z) - y)
        noise = erd(p, u, **network)
        radius = np.exp(p["log_radius"][k]) * sigma * np.sqrt(noise.size - 1)
        noise = noise * min(1, radius / np.linalg.norm(noise))
        x, previous = np.clip(u - noise, 0, 255), x
        iterates.append(x)
    return np.array(iterates)
