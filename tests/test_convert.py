"""The command isr-jax convert, end to end."""

import os
import pickle
import random
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from isr_jax.__main__ import exit_code
from isr_jax.config import ERDConfig, ModelConfig
from isr_jax.convert import main
from isr_jax.models.model_file import load_model, parameters_to_dict, read_metadata, save_model
from isr_jax.models.torch_file import read_torch_file
from tests.random_model import random_model
from tests.released_weights import isrrescnet, srrescgan
from tests.test_certificate import small_case
from tests.torch_writer import torch_bytes


def convert(*arguments) -> int:
    return exit_code(main, [str(a) for a in arguments])


def test_weights_in_with_a_certificate(tmp_path, capsys):
    source, target, golden = tmp_path / "x.pth", tmp_path / "new/x.safetensors", tmp_path / "golden.npz"
    source.write_bytes(torch_bytes({"model_state_dict": isrrescnet(), "epoch": 3}))
    assert convert(source, target) == 0
    said = capsys.readouterr().out
    assert "ISRResCNet, 3 stages, 4 features, 2 residual blocks, 4 feedback steps" in said
    assert "left out, not weights: epoch" in said
    np.savez(golden, **small_case(load_model(target)))
    assert convert(source, target, "--golden", golden) == 0
    assert "stage 3" in capsys.readouterr().out
    metadata = read_metadata(target)
    assert metadata["certificate"]["holds"]
    assert metadata["certificate"]["largest_difference"].keys() >= {"stage 1", "stage 3", "init"}
    assert len(metadata["provenance"]["sha256"]) == 64


def test_a_certificate_that_fails_leaves_nothing(tmp_path, capsys):
    source, target, golden = tmp_path / "x.pth", tmp_path / "x.safetensors", tmp_path / "golden.npz"
    source.write_bytes(torch_bytes(isrrescnet()))
    assert convert(source, target) == 0
    np.savez(golden, **small_case(load_model(target)))
    target.unlink()
    source.write_bytes(torch_bytes(isrrescnet(seed=1)))
    assert convert(source, target, "--golden", golden) == 1
    assert "not what these weights compute" in capsys.readouterr().err
    assert not target.exists()


@pytest.mark.parametrize("names", ["weight_g", "parametrizations"])
def test_there_and_back(names, tmp_path):
    source, ours, theirs, again = (tmp_path / n for n in ("x.pth", "a.safetensors", "b.safetensors", "c.safetensors"))
    source.write_bytes(torch_bytes(srrescgan()))
    assert convert(source, ours, "--scale", 2) == 0
    assert convert(ours, theirs, "--weight-norm-names", names) == 0
    assert convert(theirs, again) == 0
    assert ours.read_bytes() != theirs.read_bytes()
    a, b = load_model(ours), load_model(again)
    assert a.config == b.config
    first, second = parameters_to_dict(a), parameters_to_dict(b)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    state = safetensors.numpy.load_file(theirs)
    for key, array in srrescgan(spelling=names).items():
        np.testing.assert_array_equal(state[key], array)


def test_usage_errors(tmp_path, capsys):
    source = tmp_path / "x.pth"
    source.write_bytes(torch_bytes(isrrescnet()))
    ours = tmp_path / "ours.safetensors"
    assert convert(source, ours) == 0
    kept = tmp_path / "kept.png"
    kept.write_text("mine")
    for arguments, code, message in [
        ([source], 2, "OUT"),
        ([source, tmp_path / "y.safetensors", "--mode", "cubic"], 2, "bicubic"),
        ([source, tmp_path / "y.safetensors", "--scale", "0"], 2, "scale is 0"),
        ([source, tmp_path / "y.safetensors", "--feedback-steps", "0"], 2, "at least 1"),
        ([source, tmp_path], 2, "must be a file"),
        ([source, source], 2, "another one"),
        ([source, tmp_path / "y.pth"], 2, ".safetensors"),
        ([source, kept], 2, "kept.png: what is written is a .safetensors file; name it so"),
        ([tmp_path / "absent.pth", tmp_path / "y.safetensors"], 1, "cannot be read"),
        ([ours, tmp_path / "y.safetensors", "--scale", "4"], 2, "--scale is for PyTorch weights"),
        ([ours, tmp_path / "y.bin"], 2, ".safetensors"),
        ([source, tmp_path / "y.safetensors", "--golden", tmp_path / "absent.npz"], 1, "absent.npz"),
    ]:
        capsys.readouterr()
        assert convert(*arguments) == code
        said = capsys.readouterr().err
        assert message in said
        assert said.count("\n") == 1
    assert not (tmp_path / "y.safetensors").exists()
    assert kept.read_text() == "mine"


def test_a_model_that_pytorch_cannot_hold(tmp_path, capsys):
    erd = ERDConfig(features=2, num_blocks=1, feedback_steps=0, resolution="lr")
    config = ModelConfig(num_stages=1, physics="bicubic", prior=erd)
    save_model(tmp_path / "lite.safetensors", random_model(config))
    assert convert(tmp_path / "lite.safetensors", tmp_path / "out.safetensors") == 1
    assert "prior.resolution is 'lr'" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path, capsys):
    victim = tmp_path / "victim"

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {victim}",)

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Evil()}, protocol))
        assert convert(tmp_path / "evil.pth", tmp_path / "out.safetensors") == 1
        said = capsys.readouterr().err
        assert f"{os.system.__module__}.system" in said
        assert said.count("\n") == 1
    assert not victim.exists()
    assert not (tmp_path / "out.safetensors").exists()
    pickle.loads((tmp_path / "evil.pth").read_bytes())  # the ordinary unpickler does it
    assert victim.exists()


# --- mutated checkpoints ---------------------------------------------------------------------------------------------


def mutate(data: bytes, state: OrderedDict, choose: random.Random) -> bytes:
    """Returns a damaged copy: bytes flipped, cut short, a key renamed or lost or added, or a shape changed."""
    kind = choose.choice(("flip", "flip", "cut", "rename", "remove", "add", "shape", "type", "wrap"))
    if kind == "flip":
        damaged = bytearray(data)
        for _ in range(choose.choice((1, 2, 50))):
            # Not in the zip directory, where a few bytes mean nothing.
            damaged[choose.randrange(data.index(b"PK\x01\x02"))] ^= choose.randrange(1, 256)
        return bytes(damaged)
    if kind == "cut":
        return data[: choose.randrange(len(data))]
    state = OrderedDict(state)
    key = choose.choice(list(state))
    if kind == "rename":
        at = choose.randrange(len(key))
        state[key[:at] + choose.choice("xyz%\n\x1b") + key[at + 1 :]] = state.pop(key)
    elif kind == "remove":
        del state[key]
    elif kind == "add":
        state[f"{key}{choose.randrange(9)}"] = state[key]
    elif kind == "shape":
        array = state[key]
        shapes = [array[None], array[..., None], array[:-1].copy(), np.concatenate([array, array[-1:]])]
        state[key] = choose.choice(shapes)
    elif kind == "type":
        state[key] = choose.choice([state[key].astype("i8"), state[key] * np.float32(np.nan), "text", 3, None, [1.0]])
    else:
        return torch_bytes({choose.choice(("model", "weights", "Params")): state})
    return torch_bytes(state)


def check_mutated(data: bytes, state: OrderedDict, count: int, folder: Path, capsys) -> None:
    source, target = folder / "mutated.pth", folder / "out.safetensors"
    choose = random.Random(0)
    for _ in range(count):
        source.write_bytes(mutate(data, state, choose))
        assert convert(source, target) == 1
        said = capsys.readouterr()
        assert said.err.startswith(f"isr-jax: {source}")
        assert said.err.count("\n") == 1
        assert len(list(folder.iterdir())) == 1  # no model, nothing temporary


def test_mutated_checkpoints(tmp_path, capsys):
    state = isrrescnet(features=2, blocks=1)
    check_mutated(torch_bytes(state), state, 60, tmp_path, capsys)


@pytest.mark.slow
def test_200_mutated_copies_of_a_real_checkpoint(shared, tmp_path, capsys):
    path = shared / "golden/isrrescnet/isrrescnet_x4.pth"
    state = read_torch_file(path)["model_state_dict"]
    check_mutated(path.read_bytes(), state, 200, tmp_path, capsys)


def test_mutated_safetensors(tmp_path, capsys):
    data = safetensors.numpy.save(dict(isrrescnet(features=2, blocks=1)))
    header = int.from_bytes(data[:8], "little")
    choose = random.Random(0)
    source, target = tmp_path / "x.safetensors", tmp_path / "out.safetensors"
    for i in range(100):
        damaged = bytearray(data)
        # The format has no checksums: only damage to its header can be seen.
        damaged[choose.randrange(8 + header)] ^= choose.randrange(1, 256)
        source.write_bytes(damaged if i % 4 else data[: choose.randrange(len(data))])
        code = convert(source, target)
        said = capsys.readouterr()
        assert code in (0, 1)
        assert code == 0 or (said.err.count("\n") == 1 and not target.exists())
        target.unlink(missing_ok=True)


# --- the whole way ---------------------------------------------------------------------------------------------------


def test_as_a_program(tmp_path):
    source, target = tmp_path / "x.pth", tmp_path / "x.safetensors"
    source.write_bytes(torch_bytes(srrescgan(), legacy=True))
    for command in (["-m", "isr_jax", "convert"], ["-m", "isr_jax.convert"]):
        done = subprocess.run([sys.executable, *command, source, target], capture_output=True, text=True, check=True)
        assert "SRResCGAN" in done.stdout
        assert target.exists()
        target.unlink()
    failed = subprocess.run([sys.executable, "-m", "isr_jax", "convert", source], capture_output=True, text=True)
    assert failed.returncode == 2
    assert failed.stderr.startswith("isr-jax: ")
    assert failed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (isrrescnet, ["--mode", "bicubic"]),
        (isrrescnet, ["--mode", "bilinear", "--scale", "3"]),
        (isrrescnet, ["--mode", "normal", "--feedback-steps", "2"]),
        (isrrescnet, ["--mode", "kernel"]),
        (srrescgan, ["--scale", "2"]),
    ],
)
def test_golden_files_by_pytorch(make, options, tmp_path):
    """A golden file that PyTorch makes of a checkpoint certifies the conversion of that checkpoint."""
    python = os.environ.get("ISR_JAX_TORCH_PYTHON")
    if not python:
        pytest.skip("needs $ISR_JAX_TORCH_PYTHON, a Python that has torch")
    source, golden, target = tmp_path / "x.pth", tmp_path / "golden.npz", tmp_path / "x.safetensors"
    source.write_bytes(torch_bytes({"state_dict": make(channels=1)}))
    script = Path(__file__).parents[1] / "experiments/make_golden.py"
    subprocess.run([python, script, source, golden, *options], check=True)
    assert convert(source, target, "--golden", golden, *options) == 0
    differences = read_metadata(target)["certificate"]["largest_difference"]
    assert differences.keys() >= {"init", "sigma", "erd", "output" if make is srrescgan else "stage 3"}
    assert max(differences.values()) < 0.01


@pytest.mark.parametrize(
    ("weights", "case", "options"),
    [
        ("isrrescnet/isrrescnet_x4.pth", "isrrescnet/x4_bicubic.npz", []),
        ("isrrescnet/isrrescnet_x4.pth", "isrrescnet/x4_bilinear.npz", ["--mode", "bilinear"]),
        ("isrrescnet/isrrescnet_x4.pth", "isrrescnet/x4_decimation.npz", ["--mode", "normal"]),
        ("isrrescnet/isrrescnet_x4.pth", "isrrescnet/x3_bicubic.npz", ["--scale", "3"]),
        ("isrrescnet/isrrescnet_x4_legacy.pth", "isrrescnet/x2_bicubic_batch2.npz", ["--scale", "2"]),
        ("srrescgan/srrescgan_x4.pth", "srrescgan/x4_case.npz", []),
    ],
)
def test_golden_pictures(weights, case, options, shared, tmp_path):
    """convert and then upscale reproduce what PyTorch computed."""
    upscale = pytest.importorskip("isr_jax.upscale")
    image = pytest.importorskip("PIL.Image")
    golden = np.load(shared / "golden" / case)
    expected = golden["iterates"][-1] if "iterates" in golden else golden["output"]
    model = tmp_path / "model.safetensors"
    assert convert(shared / "golden" / weights, model, *options) == 0
    for i, lr in enumerate(golden["lr"]):
        image.fromarray(lr).save(tmp_path / "lr.png")
        arguments = [tmp_path / "lr.png", "--output", tmp_path / "hr.npy", "--model", model]
        assert exit_code(upscale.main, [str(a) for a in arguments]) == 0
        hr = np.load(tmp_path / "hr.npy")
        assert hr.dtype == np.float32
        assert np.abs(hr - expected[i]).max() < 0.02
