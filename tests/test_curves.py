import json

import numpy as np
import pytest
from PIL import Image

from isr_jax import plot
from isr_jax.__main__ import exit_code
from isr_jax.config import UserError
from isr_jax.pictures.published import published_psnr
from isr_jax.training import curves
from isr_jax.training.description import describe_run
from isr_jax.training.records import record_until
from tests.blocked import run_command_blocked


def write_record(folder, steps=40, stages=3):
    folder.mkdir(exist_ok=True)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(10, 10 * steps + 1, 10):
            values = {"loss": 1 / step, "learning_rate": 1e-3, "seconds_per_step": 60.0, "data_wait_share": 0.2}
            values |= {"gradient_norm": 0.1, "update_norm": 0.0}
            file.write(json.dumps({"step": step, **values}) + "\n")
            if step % 100 == 0:
                values = {"Set5/psnr_y": 30 + step / 1000, "Set5/psnr_y_bicubic": 28.43, "Set5/ssim_y": None}
                values |= {f"{name}_stage_{k}": step * k for name in ("Set5/psnr_y", "w") for k in range(stages)}
                file.write(json.dumps({"step": step, **values, "alpha_stage_1": 0.7}) + "\n")
        file.write('{"step": 9')  # of a process that is running
    return folder


def panels(folder):
    """The axes of the picture, by their titles."""
    return {axis.get_title(): axis for axis in curves.make_figure(folder).axes}


def test_a_running_run_is_drawn_beside_bicubic_and_the_paper(tmp_path):
    folder = write_record(tmp_path / "run")
    (folder / "config.json").write_text('{"model": {"scale": 4}}')
    (folder / "status.json").write_text('{"state": "running", "of": 1000}')
    drawn = panels(folder)
    curves.draw_run(folder, folder / "curves.png")
    with Image.open(folder / "curves.png") as image:
        assert min(image.size) > 500
    assert list(drawn) == [
        "Validation, averaged weights",
        "Loss",
        "Learning rate",
        "Time per step: 60.0 s, 20% waiting for data",
        "Norms",
        "Set5: PSNR-Y after each stage",
        "momentum w of each stage",  # and no alpha, which was not learned
    ]
    labels = drawn["Validation, averaged weights"].get_legend_handles_labels()[1]
    assert labels == ["Set5: best 30.40", "Set5: bicubic 28.43", "Set5: the paper 31.63"]
    (above,) = drawn["Validation, averaged weights"].child_axes
    assert above.get_xlabel() == "hours of training"
    assert [tick.get_text() for tick in above.get_xticklabels()][-1] == "6.7"  # 400 steps of a minute
    assert drawn["Loss"].get_legend_handles_labels()[1] == ["mean of 3 records"]


def test_what_is_no_text_or_no_record_is_passed_over_and_names_are_no_mathematics(tmp_path):
    folder = write_record(tmp_path / r"r$^$")
    told = folder / "metrics.jsonl"
    told.write_bytes(
        b'\xff\xfe\n{"step": 1e400}\n' + b"[" * 100_000 + b"\n" + told.read_bytes().replace(b"Set5", b"$S$")
    )
    (folder / "config.json").write_text('{"model": null}')
    assert "$S$: PSNR-Y after each stage".replace("$", r"\$") in panels(folder)
    curves.draw_run(folder, folder / "curves.png")
    assert describe_run(folder)["last record"] == "step 400"
    assert record_until(told, 10).count("\n") == 1


def test_a_run_of_one_record_is_drawn(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 0.5, "seconds_per_step": 0.5, "data_wait_share": 0.0}\n'
    )
    assert len(panels(tmp_path)) == 2


def test_steps_that_were_skipped_are_marked(tmp_path):
    folder = write_record(tmp_path / "run")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('\n{"step": 401, "skipped": 1.0, "rate_factor": 0.5}\n')
    assert "Loss, red: steps skipped" in panels(folder)


def test_the_running_mean_of_the_ends_is_that_of_what_there_is():
    values = np.array([1.0, 2.0, 6.0, 3.0])
    np.testing.assert_allclose(curves._running_mean(values, 1), [1.5, 3.0, 11 / 3, 4.5])


def test_what_is_no_run_is_named(tmp_path, capsys):
    assert exit_code(plot.main, [str(tmp_path)]) == 1
    assert "metrics.jsonl: no such file" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text("torn")
    with pytest.raises(UserError, match="no measurement yet"):
        curves.read_curves(tmp_path)


def test_without_matplotlib_the_remedy_is_named(tmp_path):
    done = run_command_blocked("plot", ("matplotlib",), write_record(tmp_path / "run"))
    assert done.returncode == 1
    assert done.stderr == "isr-jax: matplotlib is not installed; run: pip install 'isr_jax[train]'\n"


@pytest.mark.parametrize(
    ("dataset", "scale", "psnr"), [("Set5", 4, 31.63), ("BSD100", 2, 31.98), ("B100", 2, 31.98), ("mine", 4, None)]
)
def test_the_published_figures(dataset, scale, psnr):
    assert published_psnr(dataset, scale) == psnr
