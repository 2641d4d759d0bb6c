"""Draws what no camera took: pages of text, charts and cartoons, whose edges are as sharp as pixels allow.

    python experiments/drawn_pictures.py --count 360 --seed 0 --output FOLDER

An estimate that has seen photographs alone takes a blurred page for a sharp photograph. Pictures are 480x480 PNG, and
the same for the same seed and fonts, which are those inside matplotlib.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from isr_jax.__main__ import exit_code

SIDE = 480
OVERSAMPLING = 3
"""By which cartoons are drawn larger, so that their edges are smooth."""
FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSansMono", "STIXGeneral", "cmr10")


def page(rng: np.random.Generator) -> Image.Image:
    """Lines of words of several sizes and fonts, dark on light or light on dark, some of them in boxes."""
    light, dark = _colour(rng, 170, 256), _colour(rng, 0, 120)
    paper, ink = (light, dark) if rng.random() < 0.75 else (dark, light)
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(image)
    top = int(rng.integers(0, 20))
    while top < SIDE:
        size = int(np.exp(rng.uniform(np.log(10), np.log(60))))
        line = " ".join(_word(rng) for _ in range(1 + SIDE // (2 * size)))
        left, here = int(rng.integers(0, 40)), ink
        if rng.random() < 0.15:
            draw.rectangle((left, top, int(rng.integers(left + 40, SIDE + 40)), int(top + 1.3 * size)), fill=ink)
            here = paper
        draw.text((left, top), line, font=_font(rng, size), fill=here)
        top += int(size * rng.uniform(1.15, 1.7))
    return image


def chart(rng: np.random.Generator) -> Image.Image:
    """Curves, bars, points or a grid of values, with axes and a title."""
    figure = Figure(figsize=(SIDE / 100, SIDE / 100), dpi=100, facecolor=tuple(rng.uniform(0.85, 1, 3)))
    for axis in figure.subplots(*(int(n) for n in rng.integers(1, 3, 2)), squeeze=False).flat:
        kind, colours = rng.integers(4), rng.uniform(0, 1, (10, 3))
        if kind == 0:
            for colour in colours[:4]:
                axis.plot(rng.normal(size=40).cumsum(), color=colour, linewidth=rng.uniform(0.6, 3))
        elif kind == 1:
            axis.bar(range(10), rng.uniform(0, 4, 10), color=colours, edgecolor="black", linewidth=rng.uniform(0, 2))
        elif kind == 2:
            axis.scatter(*rng.normal(size=(2, 60)), s=rng.uniform(4, 80), color=colours[rng.integers(10, size=60)])
        else:
            axis.imshow(rng.uniform(size=(8, 8)), cmap=str(rng.choice(["viridis", "gray", "coolwarm"])))
        axis.set_title(_word(rng), fontsize=rng.uniform(7, 16))
        axis.tick_params(labelsize=rng.uniform(5, 11))
        axis.grid(rng.random() < 0.4)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def cartoon(rng: np.random.Generator) -> Image.Image:
    """Flat and shaded shapes with outlines, hatching, and a few words."""
    side = SIDE * OVERSAMPLING
    image = Image.new("RGB", (side, side), _colour(rng, 0, 256))
    draw = ImageDraw.Draw(image)
    outline, widest = _colour(rng, 0, 60), int(rng.integers(4, 18))
    for _ in range(int(rng.integers(25, 120))):
        x, y = (int(n) for n in rng.integers(0, side, 2))
        reach, fill = int(np.exp(rng.uniform(np.log(20), np.log(450)))), _colour(rng, 0, 256)
        width, kind = int(rng.integers(0, widest)), rng.integers(5)
        points = [(int(x + a), int(y + b)) for a, b in rng.integers(-reach, reach + 1, (int(rng.integers(3, 7)), 2))]
        if kind == 0:
            draw.ellipse((x, y, x + reach, y + int(reach * rng.uniform(0.4, 1.6))), fill, outline, width)
        elif kind == 1:
            draw.polygon(points, fill, outline, width)
        elif kind == 2:
            draw.line(points, outline, width + 1, joint="curve")
        elif kind == 3:
            step = int(rng.integers(8, 30))
            for k in range(0, reach, step):
                draw.line((x + k, y, x + k + reach // 3, y + reach), outline, max(1, step // 3))
        else:
            draw.text((x, y), _word(rng), font=_font(rng, max(30, reach // 3)), fill=outline)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


KINDS: tuple[Callable[[np.random.Generator], Image.Image], ...] = (page, chart, cartoon)


def _colour(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    """Returns a grey or a colour."""
    grey = rng.random() < 0.4
    red, green, blue = (int(n) for n in np.broadcast_to(rng.integers(low, high, 1 if grey else 3), 3))
    return red, green, blue


def _word(rng: np.random.Generator) -> str:
    letters = "".join(chr(97 + n) for n in rng.integers(0, 26, rng.integers(1, 10)))
    return letters.capitalize() if rng.random() < 0.2 else letters


def _font(rng: np.random.Generator, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{rng.choice(FONTS)}.ttf", size)


def main(argv: list[str] | None = None) -> None:
    """Draws them, of each kind in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=360)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    for i in range(arguments.count):
        kind = KINDS[i % len(KINDS)]
        image = kind(np.random.default_rng((arguments.seed, i)))
        image.save(arguments.output / f"{kind.__name__}{arguments.seed}-{i:04}.png")


if __name__ == "__main__":
    sys.exit(exit_code(main))
