"""Parts of one's own by their names: what fails in them is one line that names the part and the place."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from isr_jax.config import ConfigError, LossConfig, ModelConfig, OptimizerConfig, ScheduleConfig, UserError
from isr_jax.config.names import locate, own_parts, running, source_digest
from isr_jax.physics.names import make_physics
from isr_jax.pictures.measures import Comparison, find_measures
from isr_jax.solver.data_step import make_data_step
from isr_jax.training.own_pictures import OwnPictures

PARTS = """
import dataclasses
import isr_jax
import numpy as np
from isr_jax.config import UserError

def fails(*values):
    raise RuntimeError("no luck\\nat all")

def told(*values):
    raise UserError("bring a lens")

def none(*values):
    return None

def text(*values):
    return lambda *values: "good"

def array(*values):
    return lambda *values: values[0].ravel() if hasattr(values[0], "ravel") else [0.1]

def whole(*values):
    return lambda sr, hr: (sr - hr).sum().astype("int32")

def inside(*values):
    return lambda *values: fails()

def words(*values):
    return "good"

class Camera(isr_jax.Physics):
    scale = 2

    def apply(self, x):
        return x[:, ::3, ::3]

class Fails(Camera):
    def apply(self, x):
        return fails(x)

class Needs(Camera):
    lens: float = dataclasses.field(kw_only=True)

def masked(scale):
    return isr_jax.Mask(np.ones((48, 40), bool))

class Pictures:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise KeyError(index)

class Negative(Pictures):
    def __len__(self):
        return -1
"""


@pytest.fixture(autouse=True)
def parts(tmp_path, monkeypatch):
    """Parts of one's own, in the current folder."""
    (tmp_path / "my_parts.py").write_text(PARTS)
    (tmp_path / "my_typo.py").write_text("def f(:\n")
    (tmp_path / "my_exit.py").write_text("import sys\n\nsys.exit(3)\n")
    (tmp_path / "my_failure.py").write_text("x = 1\n{}['key']\n")
    (tmp_path / "my_lack.py").write_text("import a_package_that_is_absent\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield
    for name in [name for name in sys.modules if name.startswith("my_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my_typo:f", r"fails when it is imported: SyntaxError: .*\(my_typo.py, line 1\)"),
        ("my_exit:f", r"fails when it is imported: SystemExit: 3 \(my_exit.py, line 3\)"),
        ("my_failure:f", r"fails when it is imported: KeyError: 'key' \(my_failure.py, line 2\)"),
        ("my_lack:f", "cannot be imported .*a_package_that_is_absent"),
        ("my_parts:absent", "cannot be imported .*absent.*; name it as module:Name"),
    ],
)
def test_modules_that_cannot_be_imported(name, said):
    with pytest.raises(ConfigError, match=f"a field is '{name}', which {said}"):
        locate(name, "a field")


ZEROS = np.zeros((1, 4, 4, 3), np.float32)


def build_loss(name):
    return jax.eval_shape(LossConfig(kind=name).build(), ZEROS, ZEROS)


def build_rate(name):
    return jax.eval_shape(ScheduleConfig(kind=name).build(10), jnp.int32(0))


def build_prior(name):
    class Config(type(ModelConfig().prior)):
        implementation = name

    return Config().build(channels=3, scale=2, rngs=None)


def measure(name):
    pixels = np.zeros((4, 4, 3), np.uint8)
    pair = Comparison(result=pixels, truth=pixels, lr=pixels[::2, ::2], scale=2, reduce=None)
    return find_measures([name])[0].take(pair)


def make(name):
    return make_physics(name, scale=2)


def read(name):
    return OwnPictures(name).read(0)


FAILS = r"fails: RuntimeError: no luck \(my_parts.py, line 8\)"


@pytest.mark.parametrize(
    ("use", "part", "said"),
    [
        (build_loss, "fails", FAILS),
        (build_loss, "none", "makes None; it must make a function"),
        (build_loss, "inside", FAILS),
        (build_loss, "text", "returns 'good'; it must return one real number"),
        (build_loss, "whole", "returns int32; it must return one real number of floating point"),
        (build_loss, "array", r"returns an array of shape \(48,\); it must return one"),
        (lambda name: OptimizerConfig(kind=name).build(), "fails", FAILS),
        (lambda name: OptimizerConfig(kind=name).build(), "none", "makes None; it must make an optax"),
        (build_rate, "fails", FAILS),
        (build_rate, "none", "makes None; it must make a function"),
        (build_rate, "text", "returns 'good'"),
        (build_prior, "fails", "fails: TypeError"),
        (lambda name: make_data_step(ModelConfig(data_step=name)), "fails", FAILS),
        (measure, "fails", FAILS),
        (measure, "words", "returns 'good'"),
        (make, "fails", FAILS),
        (make, "words", "is no isr_jax.Physics but str"),
        (make, "Camera", r"makes \(1, 22, 22, 3\) of \(1, 64, 64, 3\); pictures of \(1, 32, 32, 3\) are meant"),
        (make, "Fails", FAILS),
        (make, "Needs", "fails: TypeError: .*lens"),
        (OwnPictures, "fails", FAILS),
        (OwnPictures, "Negative", "fails: ValueError"),
        (read, "Pictures", r"fails: KeyError: 0 \(my_parts.py, line \d+\)"),
    ],
)
def test_parts_that_fail_or_return_something_else(use, part, said):
    with pytest.raises(ConfigError, match=f"'my_parts:{part}', which {said}"):
        use(f"my_parts:{part}")


def test_a_physics_of_one_size_is_taken():
    assert make_physics("my_parts:masked", scale=1).lr_size == (48, 40)


def test_what_a_part_itself_tells_is_passed_on():
    with pytest.raises(UserError, match=r"^bring a lens$"):
        build_loss("my_parts:told")


def test_a_bug_of_the_package_stays_one():
    for name in ("l1", "isr_jax.training.losses:l1"):
        with pytest.raises(ZeroDivisionError), running(name, "loss.kind"):
            _ = 1 / 0


def test_parts_are_found_in_a_configuration():
    ours = ["isr_jax.solver.erd:ERD", 1, "c:d", "no: one"]
    values = {"physics": "my_parts:Camera", "prior": {"type": "a.b:C", "x": ours}, "scale": 2}
    assert list(own_parts(values)) == ["my_parts:Camera", "a.b:C", "c:d"]
    assert source_digest("absent.package:Name") == ""
