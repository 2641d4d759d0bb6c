"""What is measured during training."""

import numpy as np
import pytest

from isr_jax.benchmark.benchmark import run_benchmark
from isr_jax.models.model_file import get_params
from isr_jax.pictures.pairs import Pair
from isr_jax.solver.unrolled import ISRResCNet
from isr_jax.training.data import validation_pairs
from isr_jax.training.evaluation import make_evaluation
from tests.small_run import small_config
from tests.test_datasets import write_photos


@pytest.fixture(scope="module")
def measure(tmp_path_factory):
    """Measures a small x2 model on validation folders."""
    from flax import nnx

    config = small_config(tmp_path_factory.mktemp("evaluation"))
    model = ISRResCNet(config.model, rngs=nnx.Rngs(0))
    evaluate, params = make_evaluation(model), get_params(model)
    return lambda folders: evaluate(params, folders, {})


def test_bicubic_is_recorded_as_the_benchmark_measures_it(measure, tmp_path):
    folder = write_photos(tmp_path / "valid", [(32, 32), (40, 36)])
    pairs = {"valid": validation_pairs(str(folder), 2, 3)}
    first, second = measure(pairs), measure(pairs)
    row = run_benchmark(["bicubic"], [folder], scale=2).rows[0]
    assert first["valid/psnr_y_bicubic"] == pytest.approx(row.mean("psnr_y"), abs=1e-9)
    assert first == second
    assert first["valid/psnr_y"] != first["valid/psnr_y_bicubic"]


def test_bicubic_without_an_error_is_infinite(measure):
    flat = Pair(name="a", hr=np.full((16, 16, 3), 9, np.uint8), lr=np.full((8, 8, 3), 9, np.uint8))
    assert measure({"flat": [flat]})["flat/psnr_y_bicubic"] == np.inf
