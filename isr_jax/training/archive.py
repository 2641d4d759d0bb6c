"""A run as one file, from which it goes on elsewhere: its configuration, newest checkpoint, record and weights.

A tar of plain files: manifest.json, with the SHA-256 of each of the others, is the first. What is equal packs to equal
bytes. Compiled programs are left out: what is unpacked must not be able to run.
"""

import hashlib
import importlib.machinery
import io
import json
import re
import tarfile
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from isr_jax.config import ConfigError, TrainConfig, UserError, config_from_dict, config_to_dict, read_config
from isr_jax.files import new_folder, printable, replace_file
from isr_jax.models.model_file import MODEL_FILE
from isr_jax.training.checkpoint import copy_newest, newest_step
from isr_jax.training.records import RECORD, record_until
from isr_jax.training.resume import changes

SUFFIX = ".tar"
_FORMAT, _VERSION, _MANIFEST = "isr_jax.run", 1, "manifest.json"
_WEIGHTS = (MODEL_FILE, "best.safetensors")
_NAME = re.compile(r"config\.json|metrics\.jsonl|model\.safetensors|best\.safetensors|checkpoints/\d+(/[\w-][\w.-]*)+")
"""All that a packed run may hold; no name leads out of its folder."""
_CODE = tuple(importlib.machinery.all_suffixes())
"""Never in it: a configuration names functions of modules, and started beside it, Python finds those in the folder."""
_MOST_MANIFEST = 2**24
"""Bytes."""


class PackedRun(NamedTuple):
    """A packed run, read and whole."""

    step: int
    files: dict[str, bytes]


def pack_run(run: Path, output: Path) -> int:
    """Writes a run to one file, beside and then renamed; the run is only read, and may go on meanwhile.

    Args:
      run: The run folder.
      output: The file, NAME.tar.
    Returns: The step from which the packed run goes on, that of the newest whole checkpoint.
    Raises:
      ConfigError: If `run` is no run folder, or `output` does not end in .tar.
      UserError: If the run has no whole checkpoint.
    """
    if output.suffix != SUFFIX or output.is_dir():
        raise ConfigError(f"{output}: name the file to write, as run{SUFFIX}")
    config = read_config(TrainConfig, run / "config.json")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        step = copy_newest(run, config, folder)
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    files["config.json"] = (json.dumps(config_to_dict(config), indent=2) + "\n").encode()
    files |= {weights: (run / weights).read_bytes() for weights in _WEIGHTS if (run / weights).exists()}
    if kept := record_until(run / RECORD, step):
        files[RECORD] = kept.encode()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    manifest = {"format": _FORMAT, "version": _VERSION, "step": step, "files": sums}

    def write(path: Path) -> None:
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in [(_MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode()), *sorted(files.items())]:
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))

    replace_file(output, write)
    return step


def read_packed_run(path: Path) -> PackedRun:
    """Reads a packed run and compares every file with its checksum; nothing is written.

    Raises:
      UserError: If it is missing, cut short, damaged, or holds anything that `pack_run` does not write.
    """
    files: dict[str, bytes] = {}
    manifest: Any = None
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                    raise UserError(f"{path} is no packed run: {printable(member.name, 200)} in it is no plain file")
                if manifest is None:
                    if member.name != _MANIFEST or member.size > _MOST_MANIFEST:
                        raise UserError(f"{path} is a tar, but no packed run: make one with isr-jax pack-run")
                elif member.name in files or not _NAME.fullmatch(member.name) or member.name.lower().endswith(_CODE):
                    raise UserError(f"{path} is no packed run: it holds {printable(member.name, 200)}")
                source = tar.extractfile(member)
                data = b"" if source is None else source.read()
                if manifest is None:
                    manifest = json.loads(data)
                    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
                        raise UserError(f"{path} is a tar, but no packed run: make one with isr-jax pack-run")
                else:
                    files[member.name] = data
        if manifest is None:
            raise UserError(f"{path} is an empty tar: make it with isr-jax pack-run")
        if manifest["version"] != _VERSION:
            raise UserError(f"{path} is a packed run of version {manifest['version']}, which this isr_jax cannot read")
        step, sums = int(manifest["step"]), manifest["files"]
        if sums != {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}:
            raise ValueError
        if "config.json" not in files or not any(name.startswith(f"checkpoints/{step}/") for name in files):
            raise ValueError
    except OSError as error:
        if error.filename is not None:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        raise UserError(f"{path} is no packed run, or damaged: copy it again, or make it again") from None
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise UserError(f"{path} is no packed run, or damaged: copy it again, or make it again") from None
    return PackedRun(step, files)


def unpack_run(path: Path) -> tuple[Path, str]:
    """Unpacks a run into the folder beside it that bears its name, or finds that the folder is as far.

    Returns: The run folder, and a line that says what was done.
    Raises:
      UserError: If the file is no packed run, or the folder is there and is another run, or one not as far.
    """
    packed, folder = read_packed_run(path), path.with_suffix("")
    config = _config(packed, path)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        with new_folder(folder) as temporary:
            for name, data in packed.files.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                (temporary / name).write_bytes(data)
        return folder, f"{path}: unpacked to {folder}, at step {packed.step}"
    away = f"move it away, or rename {path}"
    try:
        there = config_to_dict(read_config(TrainConfig, folder / "config.json"))
    except ConfigError:
        raise UserError(f"{folder} is there, and is not the run that {path} holds: {away}") from None
    if said := changes(config_to_dict(config), there, packed.step):
        raise UserError(f"{folder} is another run than {path} holds, with another {said}: {away}")
    if (step := newest_step(folder)) is None or step < packed.step:
        raise UserError(f"{folder} is at step {step or 0}, {path} holds step {packed.step} of the same run: {away}")
    return folder, f"{path}: {folder} is there, at step {step}, and goes on; the file holds step {packed.step}"


def _config(packed: PackedRun, path: Path) -> TrainConfig:
    try:
        return config_from_dict(TrainConfig, json.loads(packed.files["config.json"]))
    except (ConfigError, ValueError, TypeError, AttributeError, RecursionError) as error:
        said = printable(str(error), 200)
        raise UserError(f"{path}: its configuration is none that this isr_jax reads ({said})") from None
