"""The command ``isr-jax info``: all that is known of a model, a run or a picture."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from isr_jax.__main__ import run
from isr_jax.command_line import Positional, arg, parse_arguments
from isr_jax.config import ConfigError
from isr_jax.files import printable


@dataclass(frozen=True, kw_only=True)
class InfoOptions:
    """The arguments of the command."""

    what: Annotated[str, Positional, arg(metavar="MODEL|RUN|FILE")]
    """A shipped name or a model file (.safetensors, .onnx), a run folder or a packed run (.tar), or a picture."""
    card: bool = False
    """Print the model's card as Hugging Face reads it, Markdown with YAML in front: > README.md."""
    results: Path | None = None
    """With --card, scores that go into it: the JSON of isr-jax evaluate or benchmark."""


def main(argv: list[str] | None = None) -> None:
    """Prints the facts, one a line."""
    options = parse_arguments(
        InfoOptions, argv, prog="isr-jax info", description="Tells all that is known of a model, a run or a picture."
    )
    if options.card:
        print(_card(options), end="")
        return
    if options.results is not None:
        raise ConfigError("--results goes into a card: add --card")
    facts = find_facts(options.what)
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{printable(name):{width}}  {printable(' '.join(value.split()))}")


def _card(options: InfoOptions) -> str:
    from isr_jax.models.card import model_card, read_rows  # --help must not wait for JAX

    try:
        rows = [] if options.results is None else read_rows(options.results)
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"--results {options.results}: not the JSON of evaluate or benchmark ({error})") from None
    return model_card(options.what, rows)


def find_facts(what: str) -> dict[str, str]:
    """Returns what is known of whatever a name stands for.

    Raises:
      ConfigError: If it stands for nothing.
      UserError: If it cannot be read.
    """
    path = Path(what)
    if path.is_dir():
        return _of_run(path)
    if not path.exists() or path.suffix == ".safetensors":
        from isr_jax.models.description import describe

        return describe(what)  # or says that there is nothing
    if path.suffix == ".onnx":
        from isr_jax.models.onnx_graph import read_facts

        return read_facts(path)
    if path.suffix == ".tar":
        from isr_jax.training.archive import read_packed_run

        packed = read_packed_run(path)
        files = ", ".join(sorted(packed.files))
        return {"packed run": f"{path} ({path.stat().st_size:,} bytes)", "step": str(packed.step), "files": files}
    if path.suffix in (".pth", ".pt"):
        raise ConfigError(f"{path} holds weights of PyTorch: isr-jax convert makes a model file of them")
    from isr_jax.pictures.description import describe_picture

    return describe_picture(path)


def _of_run(folder: Path) -> dict[str, str]:
    from isr_jax.training.description import describe_run, is_run

    if not is_run(folder) and not (folder / "model.safetensors").is_file():
        raise ConfigError(f"{folder} is a folder, but not of a run: name a picture, a model file or a run folder")
    facts = describe_run(folder)
    if (folder / "model.safetensors").is_file():
        from isr_jax.models.description import describe

        facts |= describe(folder)
    return facts


if __name__ == "__main__":
    run(main)
