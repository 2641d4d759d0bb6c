"""What is shipped: wheel and sdist, their extras, and that they run where nothing else is installed."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from surface import public
from typing_extensions import deprecated

from isr_jax.__main__ import EXTRAS
from isr_jax.models.model_file import shipped_models

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = ("3.11", "3.12", "3.13")


def run(*command, **options) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def build(source: Path, folder: Path, kind: str) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", folder, cwd=source)
    [built] = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("wheel"), "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    return build(ROOT, tmp_path_factory.mktemp("sdist"), "sdist")


def contents(wheel: Path) -> dict[str, int]:
    """Files and their sizes."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def test_the_wheel_has_the_package_its_licence_and_models_below_12_megabytes(wheel):
    files = contents(wheel)
    weights = {name: size for name, size in files.items() if name.endswith(".safetensors")}
    assert len(weights) == len(shipped_models())
    with zipfile.ZipFile(wheel) as archive:
        packed = sum(archive.getinfo(name).compress_size for name in weights)
    assert packed < 12_000_000
    assert wheel.stat().st_size < 13_000_000
    assert "isr_jax/py.typed" in files
    assert f"isr_jax-{PROJECT['version']}.dist-info/licenses/LICENSE" in files
    assert {name.partition("/")[0] for name in files} == {"isr_jax", f"isr_jax-{PROJECT['version']}.dist-info"}
    source = {p.relative_to(ROOT).as_posix() for p in (ROOT / "isr_jax").rglob("*") if p.is_file()}
    assert {name for name in files if name.startswith("isr_jax/")} == {p for p in source if "__pycache__" not in p}


def test_the_sdist_makes_the_same_wheel(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    [source] = (tmp_path / "source").iterdir()
    assert contents(build(source, tmp_path / "again", "wheel")) == contents(wheel)
    for name in ("SECURITY.md", "CITATION.cff", "LICENSE", "tests/surface.txt", "docs/reference/surface.md"):
        assert (source / name).is_file(), name


def test_installed_it_runs(wheel, tmp_path):
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--no-index", "-q")
    run(*pip, "--target", tmp_path / "site", wheel)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    said = run(tmp_path / "site" / "bin" / "isr-jax", "--help", env=environment, cwd=tmp_path)
    assert said.startswith("usage: isr-jax COMMAND")
    code = "import isr_jax; print(isr_jax.__file__, isr_jax.__version__, len(isr_jax.list_models()))"
    file, version, models = run(sys.executable, "-c", code, env=environment, cwd=tmp_path).split()
    assert Path(file).is_relative_to(tmp_path / "site")
    assert (version, int(models)) == (PROJECT["version"], len(shipped_models()))


def test_the_extras_are_named_by_their_use_and_all_has_what_any_command_asks_for(wheel):
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        metadata = email.message_from_bytes(archive.read(name))
    extras = PROJECT["optional-dependencies"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(extras)
    assert set(EXTRAS) <= set(extras)
    [everything] = extras["all"]
    [names] = re.findall(r"isr_jax\[([\w,]+)\]", everything)
    assert set(names.split(",")) == set(extras) - {"all", "demo", "dev", "docs", "test"}


def test_what_is_cited_is_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= set(citation)  # as its schema asks
    assert (str(citation["version"]), citation["license"]) == (PROJECT["version"], PROJECT["license"])
    [paper] = citation["references"]
    assert paper["identifiers"][0]["value"] == "arXiv:2009.04809"
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[Unreleased\]|^## \[" + re.escape(PROJECT["version"]), changes, re.MULTILINE)


def check_deprecation(said: str) -> None:
    """Asks of what is said of a deprecated name for the replacement, and a version that is still to come."""
    found = re.fullmatch(r"use `[\w.]+`.*; .+ is removed in (\d+)\.(\d+)", said)
    assert found, f"name the replacement and the version, as docs/release.md does: {said}"
    now = tuple(map(int, PROJECT["version"].split(".")[:2]))
    assert (int(found[1]), int(found[2])) > now, f"its end has come: {said}"


def test_a_deprecated_name_says_what_replaces_it_and_when_it_goes():
    @deprecated("use `isr_jax.load`; `open_model` is removed in 99.0")
    def open_model(path):
        return path

    with pytest.warns(DeprecationWarning, match=r"use `isr_jax\.load`; `open_model` is removed in 99\.0"):
        assert open_model("a") == "a"
    check_deprecation(open_model.__deprecated__)
    with pytest.raises(AssertionError, match="its end has come"):
        check_deprecation("use `isr_jax.load`; `open_model` is removed in 0.1")
    with pytest.raises(AssertionError, match="name the replacement"):
        check_deprecation("do not use it")
    for value in public().values():
        if hasattr(value, "__deprecated__"):
            check_deprecation(value.__deprecated__)


def interpreter(version: str) -> str:
    """Returns a Python of a version, in the path or among pyenv's; skips where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [shutil.which(f"python{version}"), *map(str, sorted(pyenv.glob(f"{version}.*/bin/python{version}")))]
    for python in filter(None, found):
        if subprocess.run([python, "-m", "venv", "--help"], capture_output=True).returncode == 0:
            return python
    pytest.skip(f"there is no Python {version}")


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_it_installs_into_an_empty_environment_with_what_it_asks_for_alone(version, wheel, sdist, tmp_path):
    run(interpreter(version), "-m", "venv", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    here = {"env": environment, "cwd": tmp_path}
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "-q")
    run(*pip, wheel, **here)
    check_installed(python, version, here)
    run(*pip, "--no-deps", "--force-reinstall", sdist, **here)
    check_installed(python, version, here)


def check_installed(python: Path, version: str, here: dict) -> None:
    assert "isr-lite-x4" in run(python.with_name("isr-jax"), "models", **here)
    code = (
        "import numpy as np, isr_jax, sys\n"
        "isr_jax.write_image('a.png', np.zeros((8, 9, 3), np.uint8))\n"
        "print(isr_jax.__file__, *sys.version_info[:2])"
    )
    assert run(python, "-c", code, **here).split()[1:] == version.split(".")
    run(python.with_name("isr-jax"), "upscale", "a.png", "b.png", "--scale", "2", "--overwrite", **here)
    code = "import isr_jax; print(isr_jax.read_image('b.png').pixels.shape)"
    assert run(python, "-c", code, **here) == "(16, 18, 3)\n"
