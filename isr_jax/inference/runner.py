"""A model on the local devices: pictures of any shape through few programs, whole, in windows, or stage by stage.

Where an output pixel sees only so far, a window is a picture of its own: its channels, its eight turns, the strength of
the network and the rounding are done window by window, so that nothing but the result lies in memory as a whole.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from isr_jax.inference.conditions import Conditions
from isr_jax.inference.layout import Layout, choose_devices, gather, place, place_picture
from isr_jax.inference.memory_limit import TooLarge, does_not_fit, memory_of_host, resident_bytes
from isr_jax.inference.programs import Programs
from isr_jax.inference.spatial import make_layout, sees_tiles, spread_model
from isr_jax.inference.spatial_plan import count_work
from isr_jax.inference.stages import solve_by_stages
from isr_jax.inference.tiles import Window, choose_window, least_window, parts, share_window, upscale_windows
from isr_jax.physics.noise_level import measure_noise_std
from isr_jax.physics.padded import Padded
from isr_jax.physics.physics import Physics
from isr_jax.pictures.metrics import round_to
from isr_jax.solver.compilation import compiler_options
from isr_jax.solver.unrolled import ISRResCNet

MAX_WINDOW_FEATURES = 2**24
"""Numbers that one feature map of a window may have (64 MiB), four times as many where that spares much work."""

FEATURE_MAPS = 4
"""That a program holds at a time."""

OVERHEAD = 96 * 2**20
"""Bytes that a process holds beside pictures and programs, measured: compiling takes 50 to 90 MiB."""

Tell = Callable[[int, int], Any]
"""Is told how many windows are done, and of how many."""

MOST_WHOLE = 2**22
"""HR pixels of the largest picture that is solved in closed form as a whole."""


class Wanted(NamedTuple):
    """What is to become of pictures, beside what is known of them."""

    unit: Any = np.float32(1)
    """One grey level, of which white has 255, in their numbers."""
    dtype: Any = np.float32
    """Of the result; integers are rounded and clipped."""
    all_stages: bool = False
    """Whether the estimate after every stage is wanted, with a leading axis."""
    ensemble: bool = False
    """Whether the result is the mean over the eight turns of each picture."""
    strength: float | int = 1.0
    """Share of what the network does to the solver's start."""
    reserve: int = 0
    """Bytes that are needed for what is done with the result."""
    progress: Tell | None = None


Solve = Callable[..., np.ndarray]
"""(lr, known, *, num_stages, turned) -> hr, float32 on 0..255; `turned`: whether height and width are exchanged."""


class Runner:
    """A model where it runs; all local devices share a batch."""

    def __init__(
        self, model: ISRResCNet, num_stages: int, *, share: int | str | None = None, memory: int | None = None
    ):
        """Puts the model on the devices; compiles nothing yet.

        Args:
          model: The model.
          num_stages: Of the solver.
          share: Of how many devices each picture is shared.
          memory: Bytes that the process may hold; all that the computer has by default.
        """
        self.sharers = () if share is None else choose_devices(share)
        devices = jax.local_devices()
        self._mesh = jax.make_mesh((len(devices),), ("batch",), (jax.sharding.AxisType.Auto,), devices=devices)
        self.model = jax.device_put(model, self._sharding())
        self.programs = Programs(compiler_options(model.config))
        self._num_stages, self._memory, self._held = num_stages, memory, resident_bytes()
        self._windows: dict[tuple, dict[Window, None]] = {}  # by batch size and kind of physics; in order, as compiled

    @property
    def num_devices(self) -> int:
        """How many share a batch."""
        return self._mesh.size

    def run(self, lr: np.ndarray, known: Conditions, wanted: Wanted) -> np.ndarray:
        """Returns pictures (N, H, W, C) enlarged.

        Raises:
          UserError: If they do not fit into memory.
        """
        size, scale, own = (lr.shape[1], lr.shape[2]), known.physics.scale, self.model.config.channels
        if lr.shape[3] > own:  # each channel is a picture
            known = known.take(np.tile(np.arange(len(lr)), lr.shape[3]))
        halo = None if wanted.all_stages else self.model.reach(known.physics, self._num_stages)
        result = lr.size * scale**2 * np.dtype(wanted.dtype).itemsize
        if halo is None and not wanted.all_stages and not self.sharers and size[0] * size[1] * scale**2 > MOST_WHOLE:
            halo = self.model.faded_reach(known.physics)
        if halo is None:
            result += lr.size * (scale**2 + 1) * 4  # both are float32 as a whole
        held = self._held + OVERHEAD + lr.nbytes + result
        limit = memory_of_host() if self._memory is None else self._memory
        try:
            on_host, beside = jax.default_backend() == "cpu", wanted.reserve
            if on_host and halo is not None:
                beside = max(beside, self._program_bytes(min(size[0] * size[1], least_window(halo))))
            if held + beside > limit:
                raise TooLarge(beside)
            self.programs.limit = limit - held if on_host else math.inf
            if halo is None:
                return self._enlarge(lr, known, wanted, self._whole(lr, known, wanted))
            return self._run_windows(lr, known, wanted, halo)
        except TooLarge as error:
            needed = None if error.needed_bytes is None else held + error.needed_bytes
            raise does_not_fit(size, needed, self._memory) from error

    def _run_windows(self, lr: np.ndarray, known: Conditions, wanted: Wanted, halo: int) -> np.ndarray:
        """Works in windows that many sizes share, where no stage looks at the picture as a whole."""
        model, physics, size = self.model, known.physics, (lr.shape[1], lr.shape[2])
        if known.noise_std is None and model.uses_noise_std:
            known = known._replace(noise_std=measure_noise_std(self._split(_grey_levels(lr, wanted))))
        split = len(lr) * max(1, lr.shape[3] // model.config.channels)
        windows = self._windows.setdefault((split, jax.tree.structure(physics)), {})
        pad = not self.sharers and model.can_be_padded(physics)
        limit = self._most_pixels
        while True:
            window = share_window(size, halo, self._max_pixels, windows, pad=pad, limit=limit)
            count = len(list(parts(size, window[:2], halo)))
            solve = _telling(functools.partial(self._in_window, window), count * _passes(wanted), wanted.progress)
            try:
                hr = upscale_windows(
                    lr,
                    lambda part, solve=solve: self._enlarge(part, known, wanted, solve),
                    scale=physics.scale,
                    window=window[:2],
                    halo=halo,
                    dtype=wanted.dtype,
                )
            except TooLarge:
                pixels = min(window.height * window.width, lr.shape[1] * lr.shape[2])
                if pixels <= least_window(halo):
                    raise
                limit = pixels // 2
            else:
                windows[window] = None
                return hr

    @property
    def _max_pixels(self) -> int:
        return MAX_WINDOW_FEATURES // self.model.features_per_lr_pixel * max(1, len(self.sharers))

    @property
    def _most_pixels(self) -> float | int:
        """LR pixels that a window may have where that spares work, as far as the memory that is left goes."""
        return min(4 * self._max_pixels, self.programs.limit / self._program_bytes(1))

    def _program_bytes(self, pixels: int) -> int:
        """Returns about how much memory the program of a window takes."""
        return FEATURE_MAPS * 4 * self.model.features_per_lr_pixel * pixels

    def _in_window(
        self, window: Window, lr: np.ndarray, known: Conditions, *, num_stages: int, turned: bool
    ) -> np.ndarray:
        if not window.padded:
            return self._run_program(lr, known, num_stages, False)
        size, (rows, columns) = lr.shape[1:3], window[:2][:: -1 if turned else 1]
        beyond = ((0, 0), (0, rows - size[0]), (0, columns - size[1]), (0, 0))
        padded = known._replace(physics=Padded(inner=known.physics, size=np.asarray(size, np.int32)))
        hr = self._run_program(np.pad(lr, beyond), padded, num_stages, False)
        return hr[:, : size[0] * known.physics.scale, : size[1] * known.physics.scale]

    def _whole(self, lr: np.ndarray, known: Conditions, wanted: Wanted) -> Solve:
        """Returns how whole pictures are solved: stage by stage, where no more than a projection needs all of them."""
        halo, limit = self.model.stage_reach(known.physics), self._most_pixels
        if halo is None or wanted.all_stages or self.sharers or lr.shape[1] * lr.shape[2] <= limit:

            def solve(lr: np.ndarray, known: Conditions, *, num_stages: int, turned: bool) -> np.ndarray:
                return self._run_program(lr, known, num_stages, wanted.all_stages and num_stages > 0)

            return _telling(solve, _passes(wanted), wanted.progress)
        scale, channels = known.physics.scale, max(lr.shape[3], self.model.config.channels)
        between = 4 * math.prod(lr.shape[:3]) * scale**2 * channels * 4  # four pictures of float32 between the stages
        self.programs.limit -= between
        if self.programs.limit <= 0:
            raise TooLarge(between)
        limit = self._most_pixels
        window = choose_window((lr.shape[1], lr.shape[2]), halo, int(limit), limit=limit)
        count = self._num_stages * len(list(parts((lr.shape[1], lr.shape[2]), window, halo)))
        tick = _counter(count * (8 if wanted.ensemble else 1), wanted.progress)

        def by_stages(lr: np.ndarray, known: Conditions, *, num_stages: int, turned: bool) -> np.ndarray:
            shape = (window[1], window[0]) if turned else window
            return solve_by_stages(self.model, lr, known, self._run, num_stages=num_stages, window=shape, tick=tick)

        return by_stages

    def _enlarge(self, lr: np.ndarray, known: Conditions, wanted: Wanted, solve: Solve) -> np.ndarray:
        """Returns pictures of any channels, or windows of them, as they are wanted."""
        split = self._split(_grey_levels(lr, wanted))
        turn = _mean_over_turns if wanted.ensemble else _as_it_is
        hr = self._join(turn(split, known, functools.partial(solve, num_stages=self._num_stages)), lr.shape[3])
        if wanted.strength < 1:
            start = self._join(turn(split, known, functools.partial(solve, num_stages=0)), lr.shape[3])
            hr = start + np.float32(wanted.strength) * (hr - start)
        return round_to(hr if wanted.unit == 1 else hr * wanted.unit, wanted.dtype)

    def _split(self, lr: np.ndarray) -> np.ndarray:
        """Returns pictures with as many channels as the model has: grey as three, or each channel as a picture."""
        channels = lr.shape[3]
        if channels == self.model.config.channels:
            return lr
        return lr.repeat(3, axis=3) if channels == 1 else np.concatenate(np.split(lr, channels, axis=3))

    def _join(self, hr: np.ndarray, channels: int) -> np.ndarray:
        """Returns what `_split` took apart."""
        if channels == self.model.config.channels:
            return hr
        if channels == 1:
            return hr.mean(axis=-1, keepdims=True)
        return np.concatenate(np.split(hr, channels, axis=-4), axis=-1)

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

    def _run_program(self, lr: np.ndarray, known: Conditions, num_stages: int, all_stages: bool) -> np.ndarray:
        if self.sharers:
            layout = make_layout(self.sharers, self.model, known.physics, (lr.shape[1], lr.shape[2]))
            least = len(self.sharers) if jax.process_count() > 1 else 2  # a process without a part cannot help
            if layout.devices >= least:
                return self._run_shared(layout, lr, known, num_stages, all_stages)
        return self._run(_solve, known, lr, static=(num_stages, all_stages))

    def _run_shared(
        self, layout: Layout, lr: np.ndarray, known: Conditions, num_stages: int, all_stages: bool
    ) -> np.ndarray:
        """Puts a tile of the pictures on each device."""
        noise_std = None if known.noise_std is None else np.asarray(known.noise_std)
        tiles = sees_tiles(self.model, known.physics, estimates_noise=noise_std is None, num_stages=num_stages)
        model, physics, noise_std = place(layout, (self.model, known.physics, noise_std))
        placed = place_picture(layout, lr, tiles=tiles)
        return self.programs.run(
            _solve_shared,
            (model, physics, noise_std, placed),
            placed,
            num_stages,
            all_stages,
            layout,
            fetch=lambda hr: gather(layout, hr, known.physics.scale),
            sent=lambda jaxpr: count_work(jaxpr).sent_bytes,
        )

    def _sharding(self, *axes: str | None) -> jax.sharding.NamedSharding:
        return jax.sharding.NamedSharding(self._mesh, jax.sharding.PartitionSpec(*axes))


def _grey_levels(lr: np.ndarray, wanted: Wanted) -> np.ndarray:
    levels = np.asarray(lr, np.float32)
    return levels if wanted.unit == 1 else levels / wanted.unit


def _as_it_is(lr: np.ndarray, known: Conditions, solve: Solve) -> np.ndarray:
    return solve(lr, known, turned=False)


def _mean_over_turns(lr: np.ndarray, known: Conditions, solve: Solve) -> np.ndarray:
    """Returns the mean over the flips and rotations of pictures (geometric self-ensemble)."""
    total = np.zeros(())
    for flip in (False, True):
        for turns in range(4):
            turned = np.rot90(lr[:, :, ::-1] if flip else lr, turns, axes=(1, 2))
            hr = solve(np.ascontiguousarray(turned), known.turned(turns, flip), turned=turns % 2 == 1)
            hr = np.rot90(hr, -turns, axes=(-3, -2)).astype(np.float64)
            total = total + (hr[..., ::-1, :] if flip else hr)
    return (total / 8).astype(np.float32)


def _passes(wanted: Wanted) -> int:
    """Returns how often each window is run."""
    return (8 if wanted.ensemble else 1) * (2 if wanted.strength < 1 else 1)


def _counter(total: int, progress: Tell | None) -> Callable[[], None]:
    """Returns what is called after each window."""
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    return tick


def _telling(solve: Solve, total: int, progress: Tell | None) -> Solve:
    """Returns a way to solve that tells after each window."""
    tick = _counter(total, progress)

    def telling(*args: Any, **options: Any) -> np.ndarray:
        hr = solve(*args, **options)
        tick()
        return hr

    return telling


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
