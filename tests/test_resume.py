"""What a run may be resumed with, on real run folders."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import isr_jax
from isr_jax.config import DegradationConfig, EvalConfig, ParallelConfig, ScheduleConfig, UserError, config_to_dict
from isr_jax.training.memory import load_memory
from isr_jax.training.resume import check_resumable
from tests.small_run import assert_same_state, last_state, small_config

WSD = ScheduleConfig(kind="wsd", learning_rate=1e-3, decay_steps=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("resume")


@pytest.fixture(scope="module")
def stable(folder):
    """A run in its stable phase, stopped at step 6 by a length of its own; the schedule is constant up to there."""
    config = small_config(folder, steps=6, schedule=ScheduleConfig(kind="constant", learning_rate=1e-3))
    assert isr_jax.fit(config, folder / "stable", quiet=True).step == 6
    return folder / "stable"


def resumed(run, place, config):
    shutil.copytree(run, place)
    return isr_jax.fit(config, place, quiet=True)


@pytest.mark.slow
def test_the_length_of_a_wsd_run_is_open_until_it_decays(folder, stable, tmp_path):
    told = small_config(folder, steps=12, schedule=WSD)
    whole = isr_jax.fit(told, tmp_path / "whole", quiet=True)
    longer = small_config(folder, steps=30, schedule=WSD)
    assert resumed(stable, tmp_path / "run", dataclasses.replace(longer, steps=9)).step == 9
    with pytest.raises(UserError, match=r"another steps \(9 before, 30 now\), which changes .* from step 7;"):
        isr_jax.fit(longer, tmp_path / "run", quiet=True)
    assert resumed(stable, tmp_path / "again", told).step == whole.step == 12
    assert_same_state(last_state(tmp_path / "again", told).state, last_state(tmp_path / "whole", told).state)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 8, "schedule": WSD}, "from step 6;"),
        ({"steps": 5}, "has done 6 steps"),
        ({"steps": 90, "schedule": ScheduleConfig(learning_rate=1e-3)}, "from step 2;"),
        ({"steps": 90, "schedule": ScheduleConfig(kind="constant", learning_rate=2e-3)}, "from step 1;"),
        ({"epochs": 90.0, "steps": 0, "schedule": ScheduleConfig(learning_rate=1e-3)}, "another epochs"),
        ({"steps": 90, "seed": 1}, "another seed"),
        ({"precision": "tf32"}, "another precision"),
    ],
)
def test_what_changes_a_step_that_is_done_is_refused(tmp_path, changes, said):
    old, new = small_config(tmp_path, steps=6), small_config(tmp_path, **{"steps": 6, **changes})
    old, new = ({"config": config_to_dict(config), "data": "photos"} for config in (old, new))
    with pytest.raises(UserError, match="choose another run folder") as error:
        check_resumable(old, new, 6, tmp_path / "run")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_constant_rate_has_no_length(folder, stable, tmp_path):
    config = small_config(folder, steps=6)
    assert resumed(stable, tmp_path / "run", dataclasses.replace(config, steps=7)).step == 7
    in_epochs = dataclasses.replace(config, steps=0, epochs=3.0)
    assert isr_jax.fit(in_epochs, tmp_path / "run", quiet=True).step == 9  # three steps an epoch
    whole = small_config(folder, steps=9)
    isr_jax.fit(whole, tmp_path / "whole", quiet=True)
    assert_same_state(last_state(tmp_path / "run", whole).state, last_state(tmp_path / "whole", whole).state)


def test_places_and_what_does_not_change_a_step_may_be_others(folder, stable, tmp_path):
    shutil.copytree(folder / "photos", tmp_path / "elsewhere")
    config = small_config(folder, steps=7)
    data = dataclasses.replace(config.data, train=(str(tmp_path / "elsewhere"),), cache_dir=str(tmp_path / "cache"))
    config = dataclasses.replace(
        config,
        data=data,
        eval=EvalConfig(every=2, log_every=3),
        checkpoint=dataclasses.replace(config.checkpoint, every=1, keep=1),
        parallel=ParallelConfig(mapping="pmap", timeout=5),
        steps_per_call=3,
        max_minutes=5.0,
        on_nonfinite="skip",
    )
    assert resumed(stable, tmp_path / "run", config).step == 7
    (tmp_path / "elsewhere" / "0.png").unlink()
    with pytest.raises(UserError, match=r"other data than data\.train holds now"):
        isr_jax.fit(dataclasses.replace(config, steps=8), tmp_path / "run", quiet=True)


def test_measured_kernels_are_known_by_what_they_are(folder, tmp_path):
    np.save(tmp_path / "a.npy", np.full((2, 3, 3), 1 / 9, np.float32))
    shutil.copy(tmp_path / "a.npy", tmp_path / "b.npy")
    config = small_config(folder)

    def blurred(name):
        degradation = DegradationConfig(measured=1.0, kernels=str(tmp_path / name), kernel_size=3)
        data = dataclasses.replace(config.data, degradation=degradation, patch_size=8)
        return dataclasses.replace(config, data=data)

    def record(name):
        config = blurred(name)
        data = load_memory(config.data, scale=2, channels=3).fingerprint
        return {"config": config_to_dict(config), "data": data}

    old = record("a.npy")
    check_resumable(old, record("b.npy"), 2, tmp_path)
    np.save(tmp_path / "b.npy", np.full((1, 3, 3), 1 / 9, np.float32))
    with pytest.raises(UserError, match="other data"):
        check_resumable(old, record("b.npy"), 2, tmp_path)


def test_a_field_that_there_was_not_is_at_its_default(folder, stable, tmp_path):
    """A checkpoint of before `precision` and `schedule.decay_steps`; its checksums leave out what is removed."""
    from isr_jax.training.checkpoint import _record_checksum

    shutil.copytree(stable, tmp_path / "run")
    for path in (tmp_path / "run" / "checkpoints").glob("*/_CHECKPOINT_METADATA"):
        metadata = json.loads(path.read_text())
        record = metadata["custom_metadata"]
        del record["config"]["precision"], record["config"]["schedule"]["decay_steps"]
        sums = record.pop("checksums")
        record["checksums"] = {**sums, "record": _record_checksum(record)}
        path.write_text(json.dumps(metadata))
    assert isr_jax.fit(small_config(folder, steps=7), tmp_path / "run", quiet=True).step == 7
