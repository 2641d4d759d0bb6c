import dataclasses
import shutil

import pytest

from isr_jax.config import UserError
from isr_jax.training.checkpoint import Checkpoints
from tests.small_run import assert_same_state, fresh_state, small_config

# What Orbax has begun to read when a part of it fails is never awaited.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run folder with the checkpoints 1, 2 and 3, and what was saved in them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    config = small_config(folder)
    erd = dataclasses.replace(config.model.erd, features=24)  # so that most of a checkpoint is arrays
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, prior=erd))
    states, state = [], fresh_state(config)
    with Checkpoints(folder / "run", config, "data") as checkpoints:
        for step in (1, 2, 3):
            state = dataclasses.replace(
                state, step=state.step * 0 + step, params={k: v + 0.1 for k, v in state.params.items()}
            )
            states.append(state)
            checkpoints.save(state, score=None, best=20.0 + step, failures=step)
            checkpoints.wait()
    return folder / "run", config, states


def restore(folder, config, data="data"):
    with Checkpoints(folder, config, data) as checkpoints:
        restored = checkpoints.restore(fresh_state(config))
        return restored, [c.step for c in checkpoints._checkpointer.checkpoints]


@pytest.fixture
def run(saved, tmp_path):
    shutil.copytree(saved[0], tmp_path / "run")
    return tmp_path / "run"


def arrays_file(checkpoint):
    """The file that holds most of the arrays."""
    return max((checkpoint / "state" / "ocdbt.process_0" / "d").iterdir(), key=lambda path: path.stat().st_size)


def truncate(checkpoint):
    path = arrays_file(checkpoint)
    path.write_bytes(path.read_bytes()[:100])


def flip_a_bit(checkpoint):
    # One bit of a number, in a file of chunks that are stored as they are or compressed.
    path = arrays_file(checkpoint)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def lose_the_state(checkpoint):
    shutil.rmtree(checkpoint / "state")


def lose_the_record(checkpoint):
    (checkpoint / "_CHECKPOINT_METADATA").unlink()


def break_the_record(checkpoint):
    path = checkpoint / "_CHECKPOINT_METADATA"
    path.write_text(path.read_text()[:-40])


def change_the_record(checkpoint):
    path = checkpoint / "_CHECKPOINT_METADATA"
    text = path.read_text()
    assert '"augment": true' in text
    path.write_text(text.replace('"augment": true', '"augment": null'))


def lose_the_shapes(checkpoint):
    shutil.rmtree(checkpoint / "state" / "d")


def empty_the_manifest(checkpoint):
    (checkpoint / "state" / "manifest.ocdbt").write_bytes(b"")


def break_the_metadata(checkpoint):
    path = checkpoint / "state" / "_METADATA"
    path.write_text(path.read_text()[:-40])


DAMAGES = [
    lose_the_shapes,
    empty_the_manifest,
    break_the_metadata,
    truncate,
    flip_a_bit,
    empty,
    lose_the_state,
    lose_the_record,
    break_the_record,
    change_the_record,
]


def test_what_was_saved_comes_back(saved):
    folder, config, states = saved
    restored, _ = restore(folder, config)
    assert_same_state(restored.state, states[-1])
    assert (restored.best, restored.failures, restored.damaged) == (23.0, 3, ())


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_used(saved, run, damage):
    _, config, states = saved
    damage(run / "checkpoints" / "3")
    restored, left = restore(run, config)
    assert_same_state(restored.state, states[1])
    assert restored.best == 22.0
    (line,) = restored.damaged
    assert "\n" not in line
    assert len(line) < 600
    assert "checkpoints/3 is damaged" in line
    assert "going on from step 2" in line
    assert left == [1, 2]
    assert (run / "damaged" / "3").is_dir()
    assert restore(run, config)[0].damaged == ()


def test_several_damaged_checkpoints_are_passed_over_and_kept_apart(saved, run):
    _, config, states = saved
    (run / "damaged" / "3").mkdir(parents=True)
    empty(run / "checkpoints" / "3")
    truncate(run / "checkpoints" / "2")
    restored, _ = restore(run, config)
    assert_same_state(restored.state, states[0])
    assert len(restored.damaged) == 2
    assert {p.name for p in (run / "damaged").iterdir()} == {"2", "3", "3_2"}


def test_nothing_is_moved_where_none_is_whole(saved, run):
    for step in ("1", "2", "3"):
        truncate(run / "checkpoints" / step)
    with pytest.raises(UserError, match="none is whole"):
        restore(run, saved[1])
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"1", "2", "3"}


def test_another_network_or_optimiser_or_data_is_not_damage(saved, run):
    config = saved[1]
    other = dataclasses.replace(config, model=dataclasses.replace(config.model, num_stages=2))
    with pytest.raises(UserError, match=r"another model\.num_stages"):
        restore(run, other)
    changes = dataclasses.replace(config.checkpoint, allow_changes=True)
    with pytest.raises(UserError, match="of another network or optimiser"):
        restore(run, dataclasses.replace(other, checkpoint=changes))
    amsgrad = dataclasses.replace(config.optimizer, kind="amsgrad")
    with pytest.raises(UserError, match="of another network or optimiser"):
        restore(run, dataclasses.replace(config, optimizer=amsgrad, checkpoint=changes))
    with pytest.raises(UserError, match="other data"):
        restore(run, config, data="others")
    assert not (run / "damaged").exists()


def test_a_checkpoint_from_before_there_were_checksums_is_restored(saved, tmp_path):
    from orbax.checkpoint import v1 as ocp

    _, config, states = saved
    # In a folder of its own: what Checkpoints removes when it is opened, Orbax removes in the background.
    with Checkpoints(tmp_path / "record", config, "data") as checkpoints:
        record = {**checkpoints._record, "best": 25.0}
    arrays = {name: getattr(states[0], name) for name in ("step", "params", "optimizer", "average")}
    with ocp.training.Checkpointer(tmp_path / "run" / "checkpoints") as checkpointer:
        checkpointer.save(1, arrays, custom_metadata=record)
    restored, _ = restore(tmp_path / "run", config)
    assert_same_state(restored.state, states[0])
    assert restored.best == 25.0


def test_a_run_of_before_the_prior_had_its_name_is_told_what_to_do(saved, tmp_path):
    from orbax.checkpoint import v1 as ocp

    _, config, states = saved
    with Checkpoints(tmp_path / "record", config, "data") as checkpoints:
        record = dict(checkpoints._record)
    record["config"] = record["config"] | {"model": {"data_term": "none", "erd": {}}}
    with ocp.training.Checkpointer(tmp_path / "run" / "checkpoints") as checkpointer:
        checkpointer.save(1, {"step": states[0].step}, custom_metadata=record)
    with pytest.raises(UserError, match=r"older isr_jax.*checkpoint\.init_from"):
        restore(tmp_path / "run", config)
