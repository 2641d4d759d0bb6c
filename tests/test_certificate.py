"""The certificate of imported weights: it holds for the same weights and refuses what does not fit."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isr_jax.config import UserError
from isr_jax.models.certificate import TOLERANCE, certify
from isr_jax.solver.unrolled import ISRResCNet
from tests.released_weights import isrrescnet
from tests.test_convert_torch import imported_model, write


def small_case(model: ISRResCNet) -> dict:
    """A golden file of the model's own making: the format, without PyTorch."""
    lr = np.random.default_rng(0).integers(0, 256, (1, 9, 10, 3), np.uint8)

    @jax.jit
    def compute(model, lr):
        observation, state = model.prepare(lr)
        _, iterates = model.iterate(observation, state, 0, model.config.num_stages)
        return {"init": state.x, "sigma": observation.noise_std, "iterates": iterates}

    case = {"lr": lr, "scale": np.int64(model.config.scale), "mode": np.array("bicubic")}
    return case | compute(model, jnp.asarray(lr, jnp.float32))


def test_certificate(tmp_path):
    model = imported_model(write(tmp_path / "x.pth", isrrescnet()))
    np.savez(tmp_path / "golden.npz", **small_case(model))
    certificate = certify(model, tmp_path / "golden.npz")
    assert certificate["holds"]
    assert list(certificate["largest_difference"]) == ["init", "sigma", "stage 1", "stage 2", "stage 3"]
    assert max(certificate["largest_difference"].values()) < 1e-3
    assert certificate["sha256"] == hashlib.sha256((tmp_path / "golden.npz").read_bytes()).hexdigest()
    # Other weights do not pass.
    other = imported_model(write(tmp_path / "y.pth", isrrescnet(seed=1)))
    failed = certify(other, tmp_path / "golden.npz")
    assert not failed["holds"]
    assert failed["largest_difference"]["stage 3"] > TOLERANCE


def test_certificate_refuses_what_does_not_fit(tmp_path):
    model = imported_model(write(tmp_path / "x.pth", isrrescnet()))
    path, case = tmp_path / "golden.npz", small_case(model)
    for changes, message in [
        ({"scale": np.int64(2)}, "`scale` 2"),
        ({"mode": np.array("normal")}, "`mode` released_decimation"),
        ({"scale": np.float64(4.5)}, "its scale is 4.5, and must be a whole number"),
        ({"scale": np.array("x")}, "its scale is x"),
        ({"scale": np.float64("nan")}, "its scale is nan"),
        ({"lr": np.zeros((0, 9, 9, 3), "u1")}, "not a golden file"),
        ({"lr": np.zeros((1, 9, 9, 1), "u1")}, "number of channels"),
        ({"lr": np.zeros((1, 9, 9, 3), "u1")}, "init has shape"),
        ({"iterates": np.zeros((2, 1, 36, 40, 3))}, "iterates has shape"),
    ]:
        np.savez(path, **case | changes)
        with pytest.raises(UserError, match=message):
            certify(model, path)
    np.savez(path, init=np.ones(3))
    with pytest.raises(UserError, match="not a golden file"):
        certify(model, path)
    path.write_bytes(b"PK\x03\x04 nonsense")
    with pytest.raises(UserError, match="not a golden"):
        certify(model, path)


GOLDEN = [
    ("isrrescnet/isrrescnet_x4.pth", "isrrescnet/x4_bicubic.npz", {}),
    ("isrrescnet/isrrescnet_x4_legacy.pth", "isrrescnet/x3_bicubic.npz", {"scale": 3}),
    ("isrrescnet/isrrescnet_x4.pth", "isrrescnet/x2_bicubic_batch2.npz", {"scale": 2}),
    ("isrrescnet/isrrescnet_x4.pth", "isrrescnet/x4_bilinear.npz", {"mode": "bilinear"}),
    ("isrrescnet/isrrescnet_x4.pth", "isrrescnet/x4_decimation.npz", {"mode": "normal"}),
    ("isrrescnet/isrrescnet_x4.pth", "isrrescnet/x4_kernel.npz", {"mode": "kernel"}),
    ("srrescgan/srrescgan_x4.pth", "srrescgan/x4_case.npz", {}),
]


@pytest.mark.parametrize(("weights", "case", "options"), GOLDEN, ids=[case for _, case, _ in GOLDEN])
def test_golden(shared, weights, case, options):
    model = imported_model(shared / "golden" / weights, **options)
    certificate = certify(model, shared / "golden" / case)
    assert certificate["holds"]
    assert max(certificate["largest_difference"].values()) < 0.005
