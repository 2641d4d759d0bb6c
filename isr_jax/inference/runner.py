"""A model on the local devices: batches of any shape through few programs, whole, in windows, or stage by stage."""

from typing import Any

import jax
import numpy as np

from isr_jax.inference.conditions import Conditions
from isr_jax.inference.layout import Layout, choose_devices, gather, place, place_picture
from isr_jax.inference.programs import Programs
from isr_jax.inference.spatial import make_layout, sees_tiles, spread_model
from isr_jax.inference.spatial_plan import count_work
from isr_jax.inference.stages import solve_by_stages
from isr_jax.inference.tiles import Window, choose_window, share_window, upscale_windows
from isr_jax.physics.noise_level import measure_noise_std
from isr_jax.physics.padded import Padded
from isr_jax.physics.physics import Physics
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.unrolled import ISRResCNet

MAX_WINDOW_FEATURES = 2**24
"""Numbers that one feature map of a window may have (64 MiB), four times as many where that spares much work; a program
holds four such maps at a time."""


class Runner:
    """A model where it runs; all local devices share a batch."""

    def __init__(self, model: ISRResCNet, num_stages: int, share: int | str | None = None):
        """Puts the model on the devices; compiles nothing yet. `share`: of how many devices each picture is shared."""
        self.sharers = () if share is None else choose_devices(share)
        devices = jax.local_devices()
        self.num_devices = len(devices)
        self._mesh = jax.make_mesh((len(devices),), ("batch",), (jax.sharding.AxisType.Auto,), devices=devices)
        self.model = jax.device_put(model, self._sharding())
        self.programs = Programs(compiler_options(model.config))
        self._num_stages = num_stages
        self._windows: dict[tuple, dict[Window, None]] = {}  # by batch size and kind of physics; in order, as compiled

    def run(self, lr: np.ndarray, known: Conditions, all_stages: bool) -> np.ndarray:
        """Works in windows that many sizes share, where no stage looks at the picture as a whole."""
        model, physics, (_, height, width, _) = self.model, known.physics, lr.shape
        halo, max_pixels = model.reach(physics, self._num_stages), MAX_WINDOW_FEATURES // model.features_per_lr_pixel
        max_pixels *= max(1, len(self.sharers))
        if halo is None and not all_stages and not self.sharers and height * width > 4 * max_pixels:
            return self._run_stages(lr, known, 4 * max_pixels)
        if halo is None or all_stages:
            return self._run_program(lr, known, all_stages)
        if known.noise_std is None and model.uses_noise_std:
            known = known._replace(noise_std=measure_noise_std(lr))
        windows = self._windows.setdefault((len(lr), jax.tree.structure(physics)), {})
        pad = not self.sharers and model.can_be_padded(physics)
        window = share_window((height, width), halo, max_pixels, windows, pad=pad)
        windows[window] = None

        def upscale(part: np.ndarray) -> np.ndarray:
            if not window.padded:
                return self._run_program(part, known, False)
            size = np.asarray(part.shape[1:3], np.int32)
            beyond = ((0, 0), (0, window.height - size[0]), (0, window.width - size[1]), (0, 0))
            padded = known._replace(physics=Padded(inner=physics, size=size))
            return self._run_program(np.pad(part, beyond), padded, False)

        return upscale_windows(lr, upscale, scale=physics.scale, window=window[:2], halo=halo)

    def _run_stages(self, lr: np.ndarray, known: Conditions, max_pixels: int) -> np.ndarray:
        """Works on windows stage by stage, where no more than a projection needs the whole picture."""
        halo = self.model.stage_reach(known.physics)
        if halo is None:
            return self._run_program(lr, known, False)
        window = choose_window((lr.shape[1], lr.shape[2]), halo, max_pixels)
        return solve_by_stages(self.model, lr, known, self._run, num_stages=self._num_stages, window=window)

    def _run(self, function: Any, known: Conditions, lr: np.ndarray, *others: Any, static: tuple = ()) -> Any:
        """Runs a function of (model, physics, noise_std, lr, *others, *static) on the devices, which share a batch."""
        split = "batch" if len(lr) % self._mesh.size == 0 else None
        physics = jax.tree.map(
            lambda axis, leaf: jax.device_put(leaf, self._sharding(None if axis is None else split)),
            known.physics.axes(),
            known.physics,
            is_leaf=lambda axis: axis is None,
        )
        noise_std = None if known.noise_std is None else jax.device_put(known.noise_std, self._sharding(split))
        arrays = [jax.device_put(a, self._sharding(*[split] * (np.ndim(a) > 0))) for a in (lr, *others)]
        return self.programs.run(function, (self.model, physics, noise_std, *arrays), arrays[0], *static)

    def _run_program(self, lr: np.ndarray, known: Conditions, all_stages: bool) -> np.ndarray:
        if self.sharers:
            layout = make_layout(self.sharers, self.model, known.physics, (lr.shape[1], lr.shape[2]))
            least = len(self.sharers) if jax.process_count() > 1 else 2  # a process without a part cannot help
            if layout.devices >= least:
                return self._run_shared(layout, lr, known, all_stages)
        return self._run(_solve, known, lr, static=(self._num_stages, all_stages))

    def _run_shared(self, layout: Layout, lr: np.ndarray, known: Conditions, all_stages: bool) -> np.ndarray:
        """Puts a tile of the pictures on each device."""
        noise_std = None if known.noise_std is None else np.asarray(known.noise_std)
        tiles = sees_tiles(self.model, known.physics, estimates_noise=noise_std is None, num_stages=self._num_stages)
        model, physics, noise_std = place(layout, (self.model, known.physics, noise_std))
        placed = place_picture(layout, lr, tiles=tiles)
        return self.programs.run(
            _solve_shared,
            (model, physics, noise_std, placed),
            placed,
            self._num_stages,
            all_stages,
            layout,
            fetch=lambda hr: gather(layout, hr, known.physics.scale),
            sent=lambda jaxpr: count_work(jaxpr).sent_bytes,
        )

    def _sharding(self, *axes: str | None) -> jax.sharding.NamedSharding:
        return jax.sharding.NamedSharding(self._mesh, jax.sharding.PartitionSpec(*axes))


def _solve(
    model: ISRResCNet, physics: Physics, noise_std: jax.Array | None, lr: jax.Array, num_stages: int, all_stages: bool
) -> jax.Array:
    return model(lr, physics=physics, noise_std=noise_std, num_stages=num_stages, all_stages=all_stages)


def _solve_shared(
    model: ISRResCNet,
    physics: Physics,
    noise_std: jax.Array | None,
    lr: jax.Array,
    num_stages: int,
    all_stages: bool,
    layout: Layout,
) -> jax.Array:
    known: Any = {"physics": physics, "noise_std": noise_std}
    return spread_model(layout, model, lr, num_stages=num_stages, all_stages=all_stages, **known)
