"""The command ``isr-jax models``: what models there are, and what for."""

from dataclasses import dataclass

from isr_jax.__main__ import run
from isr_jax.command_line import parse_arguments


@dataclass(frozen=True, kw_only=True)
class ModelsOptions:
    """The arguments of the command: none."""


def main(argv: list[str] | None = None) -> None:
    """Prints a table."""
    parse_arguments(
        ModelsOptions,
        argv,
        prog="isr-jax models",
        description="Lists the models that come with this version; any model file or run folder is a MODEL, too.",
    )
    from isr_jax.models.description import list_models, scales_in_words  # --help must not wait for JAX

    rows = [("model", "scale", "physics", "parameters", "for")]
    for model in list_models():
        scales, count = scales_in_words(model.scales), f"{model.num_parameters:,}"
        rows.append((model.name, scales, model.physics, count, model.purpose))
    rows.append(("bicubic", "any", "bicubic", "0", "comparison: interpolation"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)]
        cells[3] = f"{row[3]:>{widths[3]}}"
        print("  ".join(cells).rstrip())


if __name__ == "__main__":
    run(main)
