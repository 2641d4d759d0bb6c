"""experiments/fuzz_files.py in small: damaged files give a picture or one line."""

import importlib.util
from pathlib import Path

import numpy as np

_SPEC = importlib.util.spec_from_file_location(
    "fuzz_files", Path(__file__).parents[1] / "experiments" / "fuzz_files.py"
)
fuzz_files = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(fuzz_files)


def test_damaged_pictures_of_all_formats_are_read_or_refused(capfd):
    files = fuzz_files.sources()
    assert len({name.split()[0] for name in files}) >= 11
    ends = set()
    for number, data in enumerate(files.values()):
        rng = np.random.default_rng([7, number])
        assert fuzz_files.try_picture(data) in ("read", "read with remarks"), list(files)[number]
        ended = fuzz_files.try_picture(fuzz_files.damage(data, rng))
        assert not ended.startswith("FAULT"), (list(files)[number], ended)
        ends.add(ended)
    assert {"read", "refused"} <= ends
    assert capfd.readouterr() == ("", "")


def test_damaged_models_are_refused(tmp_path):
    model = fuzz_files.small_model()
    assert fuzz_files.try_model(model, tmp_path) == "read"
    for number in range(40):
        ended = fuzz_files.try_model(fuzz_files.damage(model, np.random.default_rng([8, number])), tmp_path)
        assert ended in ("read", "refused")
