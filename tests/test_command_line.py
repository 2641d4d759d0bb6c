"""The two readers of a command line, tyro and the standard library, read the same."""

import pytest

from isr_jax import plot, replay
from isr_jax.__main__ import dispatch, exit_code
from isr_jax.command_line import _parse_plainly, parse_arguments
from isr_jax.config import ConfigError, TrainConfig
from isr_jax.convert import ConvertOptions
from isr_jax.evaluate import EvaluateConfig
from isr_jax.export import ExportOptions
from isr_jax.run_suite import BenchmarkOptions
from isr_jax.serve import ServeConfig
from isr_jax.upscale_options import UpscaleConfig
from tests.blocked import run_blocked, run_command_blocked

RUN = TrainConfig(steps=1)

UNDERSTOOD = [
    (RUN, ""),
    (RUN, "--model.num-stages 5 --model.prior.features=8 --data.no-augment --model.per_stage --seed 3"),
    (RUN, "--data.train a b c --eval.data --model.radius-range 2 1 --schedule.milestones 0.1 0.2"),
    (RUN, "--data.degradation.jpeg-quality 30 40 --data.degradation.gaussian 1 --on-nonfinite lower_rate"),
    (RUN, "--data.degradation.jpeg-quality None --data.placement memory --data.cache-dir some_where"),
    (RUN, "--steps 0 --epochs 2.5 --seed 1 --seed 2 --data.no-augment --data.augment"),
    (UpscaleConfig, "a b_c -o x"),
    (UpscaleConfig, "--ensemble a --output=x --noise-std 3 --scale None --blur 1.6,0.8,30 --no-overwrite"),
    (RUN, "--checkpoint.every 60s --eval.every 1.5min --eval.log-every 20"),
    (UpscaleConfig, "- -o -"),
    (UpscaleConfig, "a b --json-lines --quiet"),
    (UpscaleConfig, "-o x"),
    (UpscaleConfig, "-o x -- -a"),
    (UpscaleConfig, "a -o x --noise -1.5"),
    (EvaluateConfig, "--model a b --data d --json j --num-stages 2"),
    (EvaluateConfig, "--model a --data d --measures psnr_y my_package:score"),
    (BenchmarkOptions, "suite.toml -o out --data sets --no-pictures"),
    (ConvertOptions, "a b --mode bicubic --feedback-steps 0"),
    (ConvertOptions, "a --scale 3 b"),
    (ExportOptions, "m --size 3 4 --format stablehlo"),
    (ExportOptions, "m --size None"),
    (ExportOptions, "m out.onnx --layout nhwc"),
    (ExportOptions, "--input uint8 m -o out.onnx"),
    (plot.Arguments, "r --output o.png"),
    (replay.Arguments, "r"),
    (ServeConfig, "--model a --port 0"),
]

REFUSED = [
    (RUN, "--model.prior.depth 3", "--model.prior.depth"),
    (RUN, "--step 3", "--step"),  # not short for --steps
    (RUN, "--steps many", "many"),
    (RUN, "--steps", "--steps"),
    (RUN, "--steps 1 2", "2"),
    (RUN, "stray", "stray"),
    (RUN, "--data.augment True", "True"),
    (RUN, "--data.placement disk", "--data.placement"),
    (RUN, "--model.radius-range 2", "--model.radius-range"),
    (RUN, "--eval.every 60days", "eval.every is '60days'"),
    (RUN, "--eval.every 0", "eval.every is 0"),
    (RUN, "--data.batch-size 0", "data.batch_size is 0; it must be a whole number of at least 1"),
    (UpscaleConfig, "a --out x", "--out"),
    (EvaluateConfig, "--model a", "--data"),
    (ConvertOptions, "a", "OUT"),
    (ConvertOptions, "a b --mode x", "--mode"),
    (ExportOptions, "m --size 3", "--size"),
]


def both(asked, line):
    """What each reader makes of a line: the dataclass, or its error."""
    cls, default = (type(asked), asked) if asked is RUN else (asked, None)
    for parse in (parse_arguments, _parse_plainly):
        try:
            yield parse(cls, line.split(), prog="isr-jax x", description="", default=default)
        except ConfigError as error:
            yield str(error)


@pytest.mark.parametrize(("asked", "line"), UNDERSTOOD)
def test_both_readers_build_the_same(asked, line):
    by_tyro, plainly = both(asked, line)
    assert not isinstance(by_tyro, str), by_tyro
    assert plainly == by_tyro


@pytest.mark.parametrize(("asked", "line", "named"), REFUSED)
def test_both_readers_refuse_in_one_line(asked, line, named):
    for said in both(asked, line):
        assert isinstance(said, str)
        assert named in said
        assert "\n" not in said


def test_the_errors_of_the_plain_reader_say_what_would_do():
    said = [str(list(both(asked, line))[1]) for asked, line, _ in REFUSED]
    assert "--steps many: not a whole number (see isr-jax x --help)" in said
    assert "--data.placement disk: choose one of stream, memory (see isr-jax x --help)" in said
    assert "--size takes 2 values, not 1 (see isr-jax x --help)" in said


def test_a_file_whose_name_begins_with_a_dash_is_named_with_its_remedy(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.png").touch()
    assert exit_code(dispatch, ["inspect", "-dash.png"]) == 2
    assert "write ./-dash.png" in capfd.readouterr().err


def test_the_plain_help_has_every_field_with_its_docstring_and_default():
    done = run_command_blocked("train", ("tyro",), "--help", env={"PYTHONIOENCODING": "ascii", "COLUMNS": "80"})
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    assert "--model.num-stages INT Unrolled iterations (K). (default: 10)" in text
    assert "--model.prior.border {reflect,zero} Border of the encoder's" in text
    assert "--data.augment, --data.no-augment Whether patches are flipped" in text
    assert "model.prior: The network of the proximal step." in text
    assert max(map(len, done.stdout.splitlines()[5:])) <= 80


@pytest.mark.parametrize(
    "command", ["upscale", "convert", "export", "plot", "replay", "serve", "evaluate", "benchmark"]
)
def test_every_command_explains_itself_without_tyro(command):
    done = run_command_blocked(command, ("tyro", "matplotlib", "tensorflow", "tensorboardX", "tqdm"), "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: isr-jax {command} [-h] [OPTION ...]")


def test_an_unusable_line_is_refused_without_tyro_too():
    done = run_command_blocked("upscale", ("tyro",), "a.png", "--to", "b.png")
    assert done.returncode == 2
    assert done.stderr.startswith("isr-jax: ")
    assert done.stderr.count("\n") == 1


def test_a_class_without_a_source_has_a_help_without_docstrings():
    program = (
        "from dataclasses import dataclass\n"
        "from isr_jax.command_line import parse_arguments\n"
        "exec('@dataclass\\nclass A:\\n    size: int = 3')\n"
        "print(parse_arguments(A, ['--size', '4'], prog='x', description='').size)"
    )
    assert run_blocked(program, ("tyro",)).stdout == "4\n"
