"""``isr-jax inspect FILE...``: what happened to pictures: blur, noise, JPEG, an earlier enlargement."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """The arguments of the command."""

    inputs: Annotated[tuple[str, ...], Positional, arg(metavar="FILE...")]
    """Pictures."""
    scale: float = 4.0
    """By what they are to be enlarged: blurs are told in pixels of the enlarged picture."""
    json: bool = False
    """Print one line of JSON for each picture instead."""
    plot: Path | None = None
    """Draw the spectrum, the histogram of gradients, and the estimate of one picture as a PNG."""


def main(argv: list[str] | None = None) -> None:
    """Prints one line for each picture."""
    options = parse_arguments(
        InspectOptions,
        argv,
        prog="isr-jax inspect",
        description="Say what happened to pictures: their blur, noise and compression, and whether they were enlarged.",
    )
    if not options.inputs:
        raise ConfigError("name a picture, as isr-jax inspect photo.jpg")
    if options.plot is not None and (options.plot.suffix != ".png" or len(options.inputs) > 1):
        raise ConfigError(f"--plot {options.plot}: it is a PNG of one picture: name it .png, and give one")
    from isr_jax.inference.estimate import estimate_degradation  # here: --help must not wait for NumPy

    for name in options.inputs:
        estimate = estimate_degradation(name, scale=options.scale)
        if options.json:
            print(json.dumps({"file": name} | estimate.as_dict()), flush=True)
        else:
            remarks = f" ({'; '.join(estimate.remarks)})" if estimate.remarks else ""
            print(f"{name}: {estimate}, confidence {100 * estimate.confidence:.0f} %{remarks}", flush=True)
        if options.plot is not None:
            from isr_jax.inference.estimate_plot import draw_estimate

            draw_estimate(name, estimate, options.plot)


if __name__ == "__main__":
    run(main)
