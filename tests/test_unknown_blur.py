"""experiments/unknown_blur.py on pictures made here, with a model that is not trained."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[1] / "experiments" / "unknown_blur.py"


@pytest.mark.parametrize(
    ("table", "plus"), [("blur", ""), ("jpeg", ""), pytest.param("blur", "+", marks=pytest.mark.slow)]
)
def test_the_rows_are_those_of_the_protocol(tmp_path, table, plus):
    rng = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    small = Image.fromarray(rng.integers(0, 256, (12, 14, 3)).astype(np.uint8))
    small.resize((56, 48), Image.Resampling.BICUBIC).save(tmp_path / "set" / "a.png")
    rows = tmp_path / "rows.json"
    command = [sys.executable, SCRIPT, "--data", tmp_path / "set", "--scale", "2", "--table", table, "--json", rows]
    model = [*(["--model", "isr-lite-x2"] if table == "blur" else []), *(["--ensemble"] if plus else [])]
    done = subprocess.run([*command, *model], capture_output=True, text=True, cwd=SCRIPT.parents[1], check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(rows.read_text())["rows"]
    assert {"method", "width", "noise_std", "quality", "psnr_y", "ssim_y"} == set(found[0])
    assert {"bicubic", f"isr-lite{plus}"} <= {row["method"] for row in found}
    if table == "blur":
        assert [row["width"] for row in found if row["method"] == f"estimated{plus}"] == [0.0, 0.6, 1.2, 1.8]
        bicubic = [row["psnr_y"] for row in found if row["method"] == "bicubic"]
        assert bicubic == sorted(bicubic, reverse=True)
        # Told no blur, the physics is MATLAB's bicubic, as the model's own.
        first = {row["method"]: row["psnr_y"] for row in found if row["width"] == 0}
        assert first[f"known{plus}"] == pytest.approx(first[f"isr-lite{plus}"], abs=0.05)
    else:
        assert [row["quality"] for row in found if row["method"] == "bicubic"] == [30, 40, 50, 60, 70, 80, 90]
