"""The models of the local page: what each is asked beside a picture, and their running."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isr_jax.config import ConfigError
from isr_jax.inference.conditions import MAX_BLUR
from isr_jax.inference.estimate import Estimate
from isr_jax.inference.sizes import choose_target, largest_factor
from isr_jax.models.model_file import describe_model
from isr_jax.physics.names import needs_kernel
from isr_jax.pictures.images import read_image
from isr_jax.pictures.picture import Picture

if TYPE_CHECKING:
    from isr_jax.inference.upscaler import Upscaler

AUTOMATIC = "automatic"
"""In the place of a model's name: the shipped model that a picture is believed to need."""
MAX_NOISE = 255
SIZES = ("scale", "width", "height", "longest")
"""Fields of which one says how large the result is."""
MAX_SIDE = 65535
"""Pixels."""


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a model is asked beside the picture: the fields of the page."""

    name: str
    label: str
    """The name without its folder, for names of files."""
    scales: tuple[int, ...]
    scale: int
    """By how much it enlarges where nothing is said."""
    blur: bool
    """Whether it wants to be told the blur."""
    noise: bool
    """Whether it makes use of a noise level."""
    jpeg: bool
    """Whether it makes use of the quality of a JPEG file."""

    @classmethod
    def of(cls, name: str) -> "Choices":
        """Reads them from a model's file.

        Raises:
          ConfigError: If there is no such model.
          UserError: If the file is not a model.
        """
        if name == AUTOMATIC:
            scales = (1, 2, 3, 4)
            return cls(name=name, label=name, scales=scales, scale=4, blur=True, noise=True, jpeg=True)
        model = describe_model(name)
        config = model.config
        return cls(
            name=name,
            label=Path(name).name.removesuffix(".safetensors"),
            scales=config.all_scales,
            scale=config.scale,
            blur=needs_kernel(config.physics),
            noise=model.uses_noise_std,
            jpeg=model.uses_error_std,
        )

    def read(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Returns the arguments of `Upscaler.upscale_picture` that fields name; what is empty counts as absent.

        Raises:
          ConfigError: If the model does not take one of them.
        """
        side = (f"a whole number of pixels, 1 to {MAX_SIDE}", 1, MAX_SIDE)
        takes: dict[str, tuple[str, float | int, float | int]] = {
            "scale": (f"a factor of up to {max(self.scales)}", 1 / MAX_SIDE, max(self.scales)),
            **dict.fromkeys(SIZES[1:], side),
            "blur": (f"a width of 0 to {MAX_BLUR} pixels of the enlarged picture", 0, MAX_BLUR),
            "noise": (f"a level of 0 to {MAX_NOISE}", 0, MAX_NOISE),
            "jpeg": ("a quality of 1 to 100", 1, 100),
            "strength": ("a share of 0 to 1", 0, 1),
        }
        numbers: dict[str, float | int] = {}
        for field, (words, least, most) in takes.items():
            if not (text := asked.get(field, "").strip()):
                continue
            number = _number(text)
            if field in ("blur", "noise", "jpeg") and not getattr(self, field):
                words, number = "none", math.nan
            if not least <= number <= most or (field in SIZES[1:] and number != int(number)):
                raise ConfigError(f"the {field} is {text!r}; {self.name} takes {words}")
            numbers[field] = number
        given = [field for field in SIZES if field in numbers]
        if len(given) > 1:
            raise ConfigError(f"{given[0]} and {given[1]} exclude each other: give one")
        known: dict[str, Any] = {"scale": numbers.get("scale", self.scale)} if given in ([], ["scale"]) else {}
        if "width" in numbers or "height" in numbers:
            width, height = (int(numbers[field]) if field in numbers else None for field in ("width", "height"))
            known["size"] = (width, height)
        elif "longest" in numbers:
            known["size"] = int(numbers["longest"])
        names = {"blur": "blur", "noise": "noise_std", "jpeg": "jpeg", "strength": "strength"}
        return known | {argument: numbers[field] for field, argument in names.items() if field in numbers}

    def own_scale(self, size: tuple[int, ...], known: Mapping[str, Any]) -> int:
        """Returns the scale of the model by which it enlarges a picture of a size (H, W, ...), see `Upscaler`.

        Raises:
          ConfigError: If it does not reach the size that is wanted.
        """
        factor = _factor(size, known)
        # A scale that is given was compared before; rounding to whole pixels may exceed it on tiny pictures.
        if factor > max(self.scales) and "size" in known:
            most = f"{size[1] * max(self.scales)} x {size[0] * max(self.scales)}"
            raise ConfigError(f"{self.name} enlarges {size[1]} x {size[0]} to {most} pixels at most: ask for less")
        return min((scale for scale in self.scales if scale >= factor), default=max(self.scales))


class Models:
    """Models by name, each loaded when it is first used. One thread at a time may enlarge."""

    def __init__(self, names: Sequence[str]):
        """Reads what the models take.

        Raises:
          ConfigError: If there is no such model.
          UserError: If a file is not a model.
        """
        self.choices = {name: Choices.of(name) for name in names}
        self._loaded: dict[str, Upscaler] = {}

    @property
    def scales(self) -> list[int]:
        """All scales of all models."""
        return sorted({scale for choices in self.choices.values() for scale in choices.scales})

    def enlarge(
        self,
        name: str,
        known: Mapping[str, Any],
        file: Path,
        estimate: Estimate,
        progress: Callable[[int, int], Any] | None = None,
    ) -> tuple[Picture, str]:
        """Returns the enlarged picture, and the label of the model that made it.

        Args:
          name: Of the model, or `AUTOMATIC`.
          known: As `Choices.read` returned it.
          file: The picture's.
          estimate: What is told of it where `known` does not say it and the model wants to be told.
          progress: Is told how many windows of the picture are done, and of how many.
        Raises:
          UserError: If the picture, or what is known of it, cannot be used.
        """
        from isr_jax.inference.automatic import ANY, model_for, upscale_held
        from isr_jax.inference.upscaler import load  # here: the page must not wait for them

        data = file.read_bytes()
        picture = read_image(data)
        shape = picture.pixels.shape
        if name == AUTOMATIC:
            said = {"blur", "noise_std", "jpeg"} & known.keys()
            name = ANY if said else model_for(estimate, _factor(shape, known))
        if name not in self._loaded:
            self._loaded[name] = load(name)
        choices, told = self.choices[name], {}
        if choices.blur:
            told = estimate.at_scale(choices.own_scale(shape, known)).known(known, jpeg=choices.jpeg)
        model = self._loaded[name]
        return upscale_held(model, picture, data, **known, **told, progress=progress)[0], choices.label


def _factor(size: tuple[int, ...], known: Mapping[str, Any]) -> float:
    """Returns by how much a picture of a size (H, W, ...) is to be enlarged."""
    target = choose_target(size, **{name: known[name] for name in ("scale", "size") if name in known})
    return largest_factor(size, target.size)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
