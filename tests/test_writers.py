import json

from isr_jax.training.curves import read_curves
from isr_jax.training.writers import Writers


def test_an_infinite_psnr_is_null_and_no_point_of_a_curve(tmp_path):
    writers = Writers(tmp_path, first_step=0, total_steps=2, quiet=True)
    writers.scalars(1, {"loss": 0.5, "psnr_y": float("inf")})
    writers.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": 0.5, "psnr_y": None}
    assert read_curves(tmp_path) == {"loss": [(1, 0.5)]}
