import dataclasses
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import isr_jax
from isr_jax import pack_run as command
from isr_jax.__main__ import exit_code
from isr_jax.config import EvalConfig, UserError
from isr_jax.train import main
from isr_jax.training.archive import pack_run, read_packed_run, unpack_run
from tests.small_run import assert_same_state, contents, last_state, small_config
from tests.test_datasets import write_photos

# A damaged array fails Orbax's load while others are still being read; what they then say has no reader.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archive")
    write_photos(folder / "valid" / "HR", [(32, 32)], seed=9)
    return folder


def config_of(folder, **changes):
    return small_config(folder, **{"eval": EvalConfig(data=(str(folder / "valid"),), every=3, log_every=1), **changes})


@pytest.fixture(scope="module")
def run(folder):
    """A run at step 6, of a length that is open."""
    isr_jax.fit(config_of(folder, steps=6), folder / "run", quiet=True)
    return folder / "run"


@pytest.fixture(scope="module")
def packed(folder, run):
    before = contents(run)
    assert pack_run(run, folder / "run6.tar") == 6
    assert contents(run) == before
    return folder / "run6.tar"


def one_line(capfd):
    line = capfd.readouterr().err
    assert line.startswith("isr-jax: ")
    assert line.count("\n") == 1
    return line


def test_a_packed_run_goes_on_elsewhere_to_the_same_bytes(folder, packed, tmp_path, capfd):
    shutil.copy(packed, tmp_path / "away.tar")
    shutil.copytree(folder / "photos", tmp_path / "pictures")
    elsewhere = ["--steps", "9", "--data.train", str(tmp_path / "pictures"), "--data.cache-dir", str(tmp_path / "c")]
    assert exit_code(main, ["--workdir", str(tmp_path / "away.tar"), *elsewhere]) == 0
    assert f"unpacked to {tmp_path / 'away'}, at step 6" in capfd.readouterr().err
    config = config_of(folder, steps=9)
    isr_jax.fit(config, tmp_path / "whole", quiet=True)
    a, b = (last_state(tmp_path / name, config) for name in ("away", "whole"))
    assert_same_state(a.state, b.state)
    assert a.best == b.best
    for name in ("model.safetensors", "best.safetensors"):
        assert (tmp_path / "away" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    steps = [json.loads(line)["step"] for line in (tmp_path / "away/metrics.jsonl").read_text().splitlines()]
    assert steps == sorted([*range(1, 10), 3, 6, 9])
    # The same command once more: the folder is further on.
    before = contents(tmp_path / "away" / "checkpoints")
    folder_of, said = unpack_run(tmp_path / "away.tar")
    assert folder_of == tmp_path / "away"
    assert "is there, at step 9, and goes on; the file holds step 6" in said
    assert contents(tmp_path / "away" / "checkpoints") == before


def test_equal_runs_pack_to_equal_bytes(packed, run, tmp_path):
    shutil.copytree(run, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    pack_run(tmp_path / "copy", tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == packed.read_bytes()
    with tarfile.open(packed) as tar:
        assert {member.mtime for member in tar} == {0}


def test_the_newest_whole_checkpoint_is_packed_and_the_run_left(run, tmp_path, capfd):
    shutil.copytree(run, tmp_path / "run")
    next((tmp_path / "run/checkpoints/6/state/ocdbt.process_0/d").iterdir()).write_bytes(b"")
    (tmp_path / "run/checkpoints/9.orbax-checkpoint-tmp").mkdir()  # as it is while it is being written
    with (tmp_path / "run/metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    before = contents(tmp_path / "run")
    assert exit_code(command.main, [str(tmp_path / "run"), "-o", str(tmp_path / "out.tar")]) == 0
    assert "out.tar: step 3 of" in capfd.readouterr().out
    assert contents(tmp_path / "run") == before
    packed = read_packed_run(tmp_path / "out.tar")
    assert packed.step == 3
    records = packed.files["metrics.jsonl"].decode().splitlines()
    assert max(json.loads(record)["step"] for record in records) == 3


@pytest.mark.slow
def test_a_run_is_packed_while_it_trains(folder, run, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ISR_JAX_COMPILATION_CACHE": str(folder / "compiled")}
    shutil.copytree(run, tmp_path / "run")
    fields = ["--steps", "4000", "--checkpoint.every", "5", "--eval.every", "4000"]
    command = [sys.executable, "-m", "isr_jax.train", "--workdir", str(tmp_path / "run"), *fields]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        steps = []
        while len(set(steps)) < 4:
            assert process.poll() is None, process.stderr
            steps.append(pack_run(tmp_path / "run", tmp_path / "out.tar"))
            assert read_packed_run(tmp_path / "out.tar").step == steps[-1]
        assert steps == sorted(steps)
    finally:
        process.kill()
        process.communicate()


def tar_of(path, members):
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def odd(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def with_manifest(*members):
    """A manifest that vouches for the members, and the members."""
    names = [(m.name if isinstance(m, tarfile.TarInfo) else m, data) for m, data in members]
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in names}
    manifest = {"format": "isr_jax.run", "version": 1, "step": 6, "files": sums}
    return [("manifest.json", json.dumps(manifest).encode()), *members]


STATE = ("checkpoints/6/state", b"x")
MALICIOUS = {
    "up": with_manifest(("../escaped", b"x"), STATE),
    "deep up": with_manifest(("checkpoints/6/../../../escaped", b"x"), STATE),
    "absolute": with_manifest(("/tmp/escaped_from_a_run", b"x"), STATE),
    "hidden": with_manifest(("checkpoints/6/.ssh", b"x"), STATE),
    "compiled": with_manifest(("cache/jit_step", b"x"), STATE),
    "symbolic": with_manifest((odd("config.json", tarfile.SYMTYPE, "/etc/passwd"), b""), STATE),
    "hard": with_manifest((odd("config.json", tarfile.LNKTYPE, "/etc/passwd"), b""), STATE),
    "device": with_manifest((odd("config.json", tarfile.CHRTYPE), b""), STATE),
    "fifo": with_manifest((odd("config.json", tarfile.FIFOTYPE), b""), STATE),
    "folder": with_manifest((odd("checkpoints", tarfile.DIRTYPE), b""), STATE),
    "twice": with_manifest(("config.json", b"{}"), ("config.json", b"{}"), STATE),
    "no configuration": with_manifest(STATE),
    "bad configuration": with_manifest(("config.json", b"{"), STATE),
    "other configuration": with_manifest(("config.json", b'{"model": {"prior": {"type": "os:system"}}}'), STATE),
    "no checkpoint": with_manifest(("config.json", b"{}")),
    "foreign": [("thesis.tex", b"mine")],
    "foreign manifest": [("manifest.json", b"[]")],
    "unfit manifest": [("manifest.json", b'{"format": "isr_jax.run"}')],
    "later": [("manifest.json", b'{"format": "isr_jax.run", "version": 2}')],
    "empty": [],
}


@pytest.mark.parametrize("name", MALICIOUS)
def test_what_is_no_packed_run_ends_in_one_line_and_writes_nothing(tmp_path, capfd, name):
    path = tmp_path / "box" / "run.tar"
    path.parent.mkdir()
    tar_of(path, MALICIOUS[name])
    assert exit_code(main, ["--workdir", str(path)]) in (1, 2)
    line = one_line(capfd)
    assert "run.tar" in line
    assert [p.name for p in tmp_path.rglob("*")] == ["box", "run.tar"]


def test_a_packed_run_brings_no_code(packed, tmp_path):
    """A configuration may name functions of modules; those in the file itself must not become one."""
    files = read_packed_run(packed).files
    config = json.loads(files["config.json"])
    config["schedule"]["kind"] = "run.checkpoints.6.mine:constant"
    code = b"open('ran', 'w')\nfrom isr_jax.training.schedules import constant"
    forged = files | {"config.json": json.dumps(config).encode(), "checkpoints/6/mine.py": code}
    tar_of(tmp_path / "run.tar", with_manifest(*forged.items()))
    command = [sys.executable, "-m", "isr_jax.train", "--workdir", "run.tar"]  # -m: what lies here can be imported
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ISR_JAX_COMPILATION_CACHE": "off"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert [p.name for p in tmp_path.iterdir()] == ["run.tar"]
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "it holds checkpoints/6/mine.py" in done.stderr


def test_damage_anywhere_is_found(packed, tmp_path, capfd):
    whole = packed.read_bytes()
    path = tmp_path / "run.tar"
    flipped = whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 1]) + whole[len(whole) // 2 + 1 :]
    for data in (b"", whole[:100], whole[:5000], whole[: len(whole) // 2], flipped, whole[: -len(whole) // 3]):
        path.write_bytes(data)
        assert exit_code(main, ["--workdir", str(path)]) == 1
        assert "run.tar" in one_line(capfd)
        assert [p.name for p in tmp_path.iterdir()] == ["run.tar"]
    path.unlink()
    assert exit_code(main, ["--workdir", str(path)]) == 1
    assert "No such file" in one_line(capfd)


def test_a_folder_that_is_there_is_never_lost(folder, packed, tmp_path):
    path, there = tmp_path / "run.tar", tmp_path / "run"
    shutil.copy(packed, path)

    def refused(said):
        before = contents(there)
        with pytest.raises(UserError, match=said):
            unpack_run(path)
        assert contents(there) == before

    there.mkdir()
    (there / "thesis.tex").write_text("mine")
    refused("is not the run that .* holds: move it away")
    shutil.rmtree(there)
    there.mkdir()  # empty: it may be taken
    assert unpack_run(path)[1].endswith("at step 6")
    shutil.move(there / "checkpoints/6", there / "checkpoints/5")
    refused(r"is at step 5, .* holds step 6 of the same run: move it away")
    other = dataclasses.asdict(config_of(folder)) | {"seed": 5}
    (there / "config.json").write_text(json.dumps(other))
    refused("is another run than .* seed")


def test_only_a_run_is_packed_and_only_to_a_tar(run, tmp_path, capfd):
    assert exit_code(command.main, [str(tmp_path), "-o", str(tmp_path / "run.tar")]) == 2
    assert "config.json: cannot be read" in one_line(capfd)
    assert exit_code(command.main, [str(run), "-o", str(tmp_path / "run.zip")]) == 2
    assert "name the file to write, as run.tar" in one_line(capfd)
    assert list(tmp_path.iterdir()) == []
