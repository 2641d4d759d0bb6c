"""``isr-jax inspect FILE...``: what happened to pictures: blur, noise, JPEG, an earlier enlargement."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from isr_jax.__main__ import PARTLY_DONE, run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError, UserError
from isr_jax.upscale_options import PIPE
from isr_jax.upscale_plan import find_sources


@dataclass(frozen=True, kw_only=True)
class InspectOptions:
    """The arguments of the command."""

    inputs: Annotated[tuple[str, ...], Positional, arg(metavar="FILE...")]
    """Pictures, folders of them, patterns such as "*.jpg", or - for standard input."""
    scale: float = 4.0
    """By what they are to be enlarged: blurs are told in pixels of the enlarged picture."""
    json: bool = False
    """Print one line of JSON for each picture instead."""
    plot: Path | None = None
    """Draw the spectrum, the histogram of gradients, and the estimate of one picture as a PNG."""


def main(argv: list[str] | None = None) -> int:
    """Prints one line for each picture. Returns the exit code, `PARTLY_DONE` where some could not be read."""
    options = parse_arguments(
        InspectOptions,
        argv,
        prog="isr-jax inspect",
        description="Say what happened to pictures: their blur, noise and compression, and whether they were enlarged.",
    )
    if not options.inputs:
        raise ConfigError("name a picture, as isr-jax inspect photo.jpg")
    names = [name for name, _ in find_sources(options.inputs)[0]]
    if options.plot is not None and (options.plot.suffix != ".png" or len(names) > 1):
        raise ConfigError(f"--plot {options.plot}: it is a PNG of one picture: name it .png, and give one")
    if options.plot is not None and options.plot.resolve() == Path(names[0]).resolve():
        raise ConfigError(f"--plot would overwrite {names[0]}: name another place")
    from isr_jax.inference.estimate import estimate_degradation  # here: --help must not wait for NumPy

    failed = 0
    for name in names:
        file = sys.stdin.buffer.read() if name == PIPE else name
        try:
            estimate = estimate_degradation(file, scale=options.scale)
        except (UserError, OSError) as error:
            if len(names) == 1:
                raise
            failed += 1
            if options.json:
                print(json.dumps({"file": name, "error": str(error)}), flush=True)
            print(f"isr-jax: {error}", file=sys.stderr)
            continue
        if options.json:
            print(json.dumps({"file": name} | estimate.as_dict()), flush=True)
        else:
            remarks = f" ({'; '.join(estimate.remarks)})" if estimate.remarks else ""
            print(f"{name}: {estimate}, confidence {100 * estimate.confidence:.0f} %{remarks}", flush=True)
        if options.plot is not None:
            from isr_jax.inference.estimate_plot import draw_estimate

            draw_estimate(file, estimate, options.plot)
    if failed == len(names):
        raise UserError(f"none of the {failed} pictures can be read")
    return PARTLY_DONE if failed else 0


if __name__ == "__main__":
    run(main)
