"""A suite of benchmarks: every method on every set, picture by picture, by the protocol of `benchmark.benchmark`.

What is done is kept in the output folder, and is not done again while all that it depends on is the same: the model's
file, with the modules of one's own that it names; the pictures' files, the physics, the options, the version of this
package; of a score, the measure. So a suite goes on where it was stopped, and another method or measure costs no more
than itself.

    OUTPUT/results.md, .tex, .json, index.html      tables, anew after each set; the page at the end
    OUTPUT/pictures/METHOD/SET[/PHYSICS]/xS/*.png   the results
    OUTPUT/scores/METHOD/SET[/PHYSICS]/xS.jsonl     what is known of each of them (`benchmark.kept`)
"""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from isr_jax.benchmark.benchmark import (
    AnyUpscaler,
    compare,
    known_of,
    super_resolve,
    told_of,
)
from isr_jax.benchmark.degradation import Degradation
from isr_jax.benchmark.kept import Kept, KeptFile
from isr_jax.benchmark.rows import Cost, Row, Scores
from isr_jax.config import ConfigError, UserError
from isr_jax.config.names import own_parts, source_digest
from isr_jax.config.suite import BICUBIC, MethodConfig, SuiteConfig, read_suite
from isr_jax.inference.bicubic import BicubicUpscaler
from isr_jax.pictures.images import list_images, write_image
from isr_jax.pictures.measures import find_measures
from isr_jax.pictures.pairs import (
    Dataset,
    Pair,
    PairFiles,
    as_channels,
    dataset_name,
    files_digest,
    hash_file,
    list_pairs,
    list_unread,
    read_pixels,
)
from isr_jax.version import package_version

VERSION = 1
"""Raised when this package computes other results of the same models and pictures: what was kept is then done anew."""

NO_COST = Cost(num_stages=0, parameters=0, macs_per_pixel=0.0, seconds=0.0, peak_bytes=0, compilations=0, cache_hits=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A set of pictures at a scale, observed in one way."""

    folder: Path
    scale: int
    physics: str
    """As the suite has it; empty where it has but one."""
    degradation: Degradation | None
    """None: the protocol's bicubic reduction."""
    files: tuple[PairFiles, ...]

    @property
    def dataset(self) -> str:
        """The name of the set."""
        return dataset_name(self.folder)

    @property
    def name(self) -> str:
        """What tables call its pictures, as `Row.place`."""
        return f"{self.dataset}, {self.physics}" if self.physics else self.dataset

    @property
    def place(self) -> Path:
        """Where its results lie below a method's folder."""
        physics = self.physics.replace("/", "_")
        return Path(self.dataset, physics, f"x{self.scale}") if physics else Path(self.dataset, f"x{self.scale}")

    def __str__(self) -> str:
        return f"{self.name} x{self.scale}"

    def read(self, files: PairFiles) -> Pair:
        """Reads a pair; LR is as it was observed."""
        pair = files.read(self.scale, least=2 * self.scale + 1)
        return pair if self.degradation is None else replace(pair, lr=self.degradation.apply(pair.hr, self.scale))


class Suite:
    """A suite that is ready to run: all that it names has been found."""

    def __init__(self, path: Path, output: Path, *, data: Path | None = None, keep_pictures: bool = True) -> None:
        """Reads a suite and finds all that it names; computes nothing.

        Args:
          path: The TOML file; see `config.suite`.
          output: Folder of the results; what is kept there is not done again.
          data: Folder that the names of sets are in; the suite's own by default.
          keep_pictures: Write the results as PNG: without them another measure means another run.
        Raises:
          ConfigError: If the suite, or a model, set, physics, measure or folder of outputs in it, cannot be used.
          UserError: If a picture has no partner or no output, or a measure's package is not installed.
        """
        self.config, self.base, self.output, self.keep_pictures = read_suite(path), path.parent, output, keep_pictures
        try:
            self.measures = find_measures(self.config.measures)
            self.methods = _with_bicubic(self.config)
            self.cases = [case for case in self._find_cases(data or path.parent) if self.methods_of(case)]
            self._models = self._find_models()
        except ConfigError as error:
            raise ConfigError(f"{path}: {str(error).replace('`', '')}") from None
        self.baseline = self.config.baseline or self.config.methods[0].name
        for method, case in itertools.product(self.methods, self.cases):
            if method.outputs and case.scale in (method.scales or self.config.scales):
                for files in case.files:
                    self._find_output(method, case, files.hr.stem)
        self._upscaler = functools.cache(self._load)
        self._hash = functools.cache(hash_file)
        self._model_hash = functools.cache(_hash_model)

    @property
    def needs_jax(self) -> bool:
        """Whether there is more than bicubic enlargement and what other programs made."""
        return bool(self._models) or any(case.degradation is not None for case in self.cases)

    @property
    def left_out(self) -> list[Path]:
        """Pictures in the sets that are of kinds that are not read."""
        unread = (list_unread(c.folder, c.scale, lr_files=c.degradation is None) for c in self.cases)
        return list(dict.fromkeys(itertools.chain.from_iterable(unread)))

    def methods_of(self, case: Case) -> list[MethodConfig]:
        """Returns the methods that are scored on a case."""
        return [method for method in self.methods if case.scale in (method.scales or self.config.scales)]

    def score(self, method: MethodConfig, case: Case, on_picture: Callable[[], Any]) -> tuple[Row, int]:
        """Scores a method on a case, each picture unless it is kept.

        Args:
          method: Of `methods_of` the case.
          case: Of `cases`.
          on_picture: Is called after each picture.
        Returns: The row, and how many pictures were not kept.
        Raises:
          UserError: If a picture cannot be read, or an output does not match.
          OSError: If a result cannot be written.
        """
        file = KeptFile(self.output / "scores" / method.name / f"{case.place}.jsonl")
        folder = self.output / "pictures" / method.name / case.place
        keys = {files.hr.stem: self._key(method, case, files) for files in case.files}
        todo = []
        for files in case.files:
            if self._is_done(file.get(files.hr.stem, keys[files.hr.stem]), method, folder):
                on_picture()
            else:
                todo.append(files)

        def finish(pair: Pair, result: np.ndarray, kept: Kept) -> None:
            compared = compare(result, pair, case.scale, case.degradation)
            anew = {m.key: m.take(compared) for m in self.measures if m.key not in kept.scores}
            file.add(replace(kept, scores=kept.scores | anew))
            on_picture()

        def keep(pair: Pair, result: np.ndarray, cost: Cost, told: str) -> None:
            written, picture = folder / f"{pair.name}.png", ""
            if self.keep_pictures:
                write_image(written, result)
                picture = hash_file(written).hex()
            key = keys[pair.name]
            finish(pair, result, Kept(name=pair.name, key=key, picture_sha256=picture, scores={}, cost=cost, told=told))

        anew = []
        for files in todo:
            kept = file.get(files.hr.stem, keys[files.hr.stem])
            written = folder / f"{files.hr.stem}.png"
            if method.outputs:
                pair, output = case.read(files), self._find_output(method, case, files.hr.stem)
                fresh = Kept(name=pair.name, key=keys[pair.name], picture_sha256="", scores={}, cost=NO_COST)
                finish(pair, _matched(read_pixels(output), pair, output), kept or fresh)
            elif kept and written.exists() and hash_file(written).hex() == kept.picture_sha256:
                finish(case.read(files), read_pixels(written), kept)
            else:
                anew.append(files)
        if anew:
            self._run(method, case, anew, keep)
        return self._row(method, case, [file.get(name, key) for name, key in keys.items()]), len(todo)

    def result(self, method: MethodConfig, case: Case, name: str) -> Path:
        """Returns the file of a result; it may not be there."""
        if method.outputs:
            return self._find_output(method, case, name)
        return self.output / "pictures" / method.name / case.place / f"{name}.png"

    def _find_cases(self, data: Path) -> list[Case]:
        folders, several = [data / name for name in self.config.sets], len(self.config.physics) > 1
        names = [dataset_name(folder) for folder in folders]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"two of the sets are called {twice[0]}: rename the folder of one")
        made = {text: _read_physics(text) for text in self.config.physics}
        return [
            Case(
                folder=folder,
                scale=scale,
                physics=text if several else "",
                degradation=made[text],
                files=tuple(list_pairs(folder, scale, lr_files=made[text] is None)),
            )
            for text, folder, scale in itertools.product(self.config.physics, folders, self.config.scales)
        ]

    def _find_models(self) -> dict[tuple[str, int], Path]:
        """Returns the file of each method's model at each of its scales; bicubic enlargement has none."""
        found = {}
        for method in self.methods:
            for scale in method.scales or self.config.scales:
                name = method.model.format(scale=scale)
                if name and name != BICUBIC:
                    found[method.name, scale] = _find_model(method, name, scale, self.base)
        return found

    def _find_output(self, method: MethodConfig, case: Case, name: str) -> Path:
        """Returns the file of another program's result."""
        places = {"set": case.dataset, "scale": case.scale, "physics": case.physics or self.config.physics[0]}
        path = self.base / method.outputs.format(**places, name=name)
        if "{name}" in method.outputs:
            if not path.is_file():
                raise UserError(f"{path} is missing: {method.name} lacks the result of {name}")
            return path
        if not path.is_dir():
            raise ConfigError(f"{path}: no such folder, where {method.name} should have its results of {case}")
        for file in list_images(path):
            if file.stem in (name, f"{name}x{case.scale}"):
                return file
        raise UserError(f"{path} lacks {name}, a result of {method.name}: add it, or leave that method out")

    def _load(self, method: MethodConfig, scale: int) -> AnyUpscaler:
        if (method.name, scale) not in self._models:
            return BicubicUpscaler(scale)
        from isr_jax.inference.upscaler import load  # here, because what is kept, and the baseline, need no JAX

        options: dict[str, Any] = {"ensemble": method.ensemble, "num_stages": method.num_stages}
        return load(self._models[method.name, scale], scale=scale, **options)

    def _key(self, method: MethodConfig, case: Case, files: PairFiles) -> str:
        """Returns a hash of all that a result depends on."""
        if method.outputs:
            by = self._hash(self._find_output(method, case, files.hr.stem)).hex()
        else:
            model = self._models.get((method.name, case.scale))
            by = [BICUBIC if model is None else self._model_hash(model), method.ensemble, method.num_stages]
        pictures = [self._hash(file).hex() for file in (files.hr, files.lr) if isinstance(file, Path)]
        physics = BICUBIC if case.degradation is None else case.degradation.digest()
        text = json.dumps([VERSION, package_version(), by, pictures, physics, case.scale])
        return hashlib.sha256(text.encode()).hexdigest()

    def _is_done(self, kept: Kept | None, method: MethodConfig, folder: Path) -> bool:
        if kept is None or any(measure.key not in kept.scores for measure in self.measures):
            return False
        return method.outputs != "" or not self.keep_pictures or (folder / f"{kept.name}.png").exists()

    def _run(self, method: MethodConfig, case: Case, files: Sequence[PairFiles], keep: Callable[..., None]) -> None:
        """Runs a model on pairs; `keep` is given pair, result, what it cost, and what the model was told."""
        upscaler = self._upscaler(method, case.scale)
        pairs = tuple(map(case.read, files))
        dataset = Dataset(name=case.dataset, scale=case.scale, pairs=pairs, lr_source=_lr_source(case), sha256="")
        known = {} if case.degradation is None else known_of(upscaler, case.degradation, case.scale)
        upscaler.program_bytes.clear()
        before = (upscaler.seconds, upscaler.compilations, upscaler.cache_hits)
        for index, (result,) in super_resolve(upscaler, dataset, **known):
            now = (upscaler.seconds, upscaler.compilations, upscaler.cache_hits)
            cost = Cost(
                num_stages=upscaler.num_stages,
                parameters=upscaler.num_parameters,
                macs_per_pixel=upscaler.macs_per_pixel,
                seconds=now[0] - before[0],
                peak_bytes=max(upscaler.program_bytes.values(), default=0),
                compilations=now[1] - before[1],
                cache_hits=now[2] - before[2],
            )
            before = now
            keep(pairs[index], result, cost, told_of(known))

    def _row(self, method: MethodConfig, case: Case, kept: Sequence[Kept | None]) -> Row:
        whole = [each for each in kept if each is not None]
        costs = [asdict(each.cost) for each in whole]
        summed = {name: sum(c[name] for c in costs) for name in ("seconds", "compilations", "cache_hits")}
        cost = Cost(**{name: max(c[name] for c in costs) for name in costs[0]} | summed)
        hr, lr = zip(*((files.hr, files.lr) for files in case.files), strict=True)
        hashes = ([(file.name, self._hash(file)) for file in some if isinstance(file, Path)] for some in (hr, lr))
        return Row(
            name=method.name,
            model=method.model.format(scale=case.scale) or method.outputs,
            dataset=case.dataset,
            scale=case.scale,
            ensemble=method.ensemble,
            lr_source=_lr_source(case),
            data_sha256=files_digest(*hashes),
            measures=self.measures,
            images=tuple(
                Scores(name=each.name, values={m.name: each.scores[m.key] for m in self.measures}) for each in whole
            ),
            cost=cost,
            degradation="" if case.degradation is None else str(case.degradation),
            told=whole[0].told,
            physics=case.physics,
        )


def _with_bicubic(config: SuiteConfig) -> tuple[MethodConfig, ...]:
    """Returns the methods, with bicubic enlargement first unless it is among them: known figures are to be reached."""
    if any(method.model == BICUBIC for method in config.methods):
        return config.methods
    return MethodConfig(name=BICUBIC, model=BICUBIC), *config.methods


def _read_physics(text: str) -> Degradation | None:
    try:
        return None if text == BICUBIC else Degradation.parse(text)
    except ConfigError as error:
        raise ConfigError(f"physics has {text!r}: {str(error).replace('`degradation` has ', '')}") from None


def _find_model(method: MethodConfig, name: str, scale: int, base: Path) -> Path:
    """Returns the file of a model, by its shipped name, below the suite's folder or the current one."""
    from isr_jax.config import ModelConfig, config_from_dict
    from isr_jax.models.model_file import find_model, read_metadata

    try:
        path = find_model(base / name if (base / name).exists() else name)
        config = config_from_dict(ModelConfig, read_metadata(path).get("config", {}))
        if scale not in config.all_scales:
            made = " and ".join(f"x{own}" for own in config.all_scales)
            raise ConfigError(
                f"{name} is made for {made}, not x{scale}: give it scales, or put {{scale}} into its name"
            )
        if method.num_stages is not None and not 1 <= method.num_stages <= config.num_stages:
            raise ConfigError(f"num_stages is {method.num_stages}; {name} has stages 1 to {config.num_stages}")
        return path
    except UserError as error:
        raise ConfigError(f"method {method.name}: {error}") from None


def _hash_model(path: Path) -> str:
    """Returns a hash of a model's file, and of the modules of one's own that it names."""
    from isr_jax.config import ModelConfig, config_from_dict
    from isr_jax.models.model_file import read_metadata

    values = read_metadata(path).get("config", {})
    network = config_from_dict(ModelConfig, values).prior.implementation  # may lie beside its configuration
    own = [source_digest(name) for name in own_parts([values, network])]
    return "|".join([hash_file(path).hex(), *own])


def _matched(result: np.ndarray, pair: Pair, path: Path) -> np.ndarray:
    """Returns another program's result in the channels of the truth.

    Raises:
      UserError: If it has not its size.
    """
    if result.shape[:2] != pair.hr.shape[:2]:
        sizes = ["x".join(map(str, pixels.shape[1::-1])) for pixels in (result, pair.hr)]
        raise UserError(f"{path} is {sizes[0]}; its truth, cut to a multiple of the scale, {sizes[1]}: make it again")
    return as_channels(result, pair.hr.shape[2])


def _lr_source(case: Case) -> str:
    if case.degradation is not None:
        return "degradation"
    return "imresize" if case.files[0].lr is None else "files"
