import contextlib
import dataclasses
import io
import json
import os
import zipfile

import numpy as np
import pytest
from PIL import Image

from isr_jax.__main__ import exit_code
from isr_jax.config import ConfigError, UserError
from isr_jax.pack import main, parse_size
from isr_jax.train import main as train
from isr_jax.training.datasets import sub_images
from isr_jax.training.memory import load_memory
from isr_jax.training.pack import MANIFEST, read_pack
from isr_jax.training.packing import write_pack
from tests.blocked import run_command_blocked
from tests.test_datasets import write_photos
from tests.test_memory import TENSORFLOW, TRAINING, assert_same_arrays, config_of, write_all_kinds


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    photos, pairs = write_all_kinds(tmp_path_factory.mktemp("kinds"))
    with open(f"{photos}/LICENSE", "w") as file:
        file.write("Public domain.\n")
    return photos, pairs


@pytest.fixture(scope="module")
def packed(sources, tmp_path_factory):
    path = tmp_path_factory.mktemp("pack") / "train.pack"
    write_pack(list(sources), path)
    return path


def one_line(capfd):
    (line,) = capfd.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("isr-jax: ")
    return line


@pytest.mark.parametrize("scale", [2, 3])
def test_a_pack_trains_as_its_folders_do(tmp_path, sources, packed, scale):
    # At scale 2 one of the two folders has LR pictures; at scale 3 all are made.
    folders = load_memory(config_of(tmp_path / "a", *sources), scale=scale, channels=3)
    pack = load_memory(config_of(tmp_path / "b", str(packed)), scale=scale, channels=3)
    assert_same_arrays(folders.memory, pack.memory)
    assert folders.fingerprint == pack.fingerprint
    mixed = load_memory(config_of(tmp_path / "a", sources[0], str(packed)), scale=scale, channels=3)
    assert mixed.fingerprint != pack.fingerprint
    assert mixed.size > pack.size


def test_a_pack_is_streamed_too(tmp_path, sources, packed):
    config = config_of(tmp_path, str(packed))
    streamed = sub_images(config, scale=2, channels=3)
    assert streamed.fingerprint == sub_images(config_of(tmp_path, *sources), scale=2, channels=3).fingerprint
    memory = load_memory(config, scale=2, channels=3).memory
    first = next(streamed.dataset.as_numpy_iterator())
    height, width = first["hr"].shape[:2]
    np.testing.assert_array_equal(first["hr"], memory.hr[0, :height, :width])


def test_what_cannot_be_read_is_named_when_it_is_packed_and_when_it_is_used(tmp_path, sources, packed, capfd):
    write_pack(list(sources), tmp_path / "again.pack")
    assert (tmp_path / "again.pack").read_bytes() == packed.read_bytes()
    assert "skipped" in (said := capfd.readouterr().err)
    assert "broken.jpg is damaged" in said
    config = config_of(tmp_path, str(packed))
    load_memory(config, scale=2, channels=3)
    assert "left out when it was packed: photos, broken.jpg is damaged" in capfd.readouterr().err
    with pytest.raises(UserError, match=r"broken\.jpg"):
        load_memory(dataclasses.replace(config, strict=True), scale=2, channels=3)


def test_links_are_packed_by_what_they_lead_to(tmp_path):
    photos = write_photos(tmp_path / "photos", [(40, 40)])
    (tmp_path / "links").mkdir()
    os.symlink(photos / "0.png", tmp_path / "links" / "0.png")
    for name in ("photos", "links"):
        write_pack([str(tmp_path / name)], tmp_path / f"{name}.pack")
    a, b = (read_pack(tmp_path / f"{name}.pack").sources[0] for name in ("photos", "links"))
    assert a.read(a.hr[0]) == b.read(b.hr[0]) == (photos / "0.png").read_bytes()


def test_the_size_is_kept_with_one_quality_and_smaller_files_as_they_are(tmp_path, sources, capfd):
    photos = write_photos(tmp_path / "photos", [(200, 300)] * 6, seed=1)
    Image.open(photos / "0.png").save(photos / "small.jpg", quality=20)
    stored = sum(path.stat().st_size for path in photos.iterdir())
    path, most = tmp_path / "train.pack", stored // 5
    pack = write_pack([str(photos), sources[1]], path, max_size=most)
    assert pack.quality is not None
    assert 80 <= pack.quality <= 100
    assert most * 0.8 < path.stat().st_size <= most
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    one, pairs = pack.sources
    assert {p.quality for p in one.hr} == {pack.quality, None}
    assert one.hr[-1].name == "small.jpg"
    assert one.read(one.hr[-1]) == (photos / "small.jpg").read_bytes()
    assert {p.quality for p in pairs.lr[2]} == {None}
    for picture in one.hr[:6]:
        decoded = np.asarray(Image.open(io.BytesIO(one.read(picture)))).astype(float)
        assert decoded.shape == (200, 300, 3)
        error = np.square(decoded - np.asarray(Image.open(photos / picture.name))).mean()
        assert 10 * np.log10(255**2 / error) > 25  # of noise, whose colours WebP halves
    config = config_of(tmp_path, str(path))
    assert load_memory(config, scale=2, channels=3).size > 7
    folder = config_of(tmp_path, str(photos), sources[1])
    assert load_memory(folder, scale=2, channels=3).fingerprint != load_memory(config, scale=2, channels=3).fingerprint
    # The next higher quality would not have fitted, unless there is none.
    if pack.quality < 100:
        assert f"quality {pack.quality + 1}: too large" in capfd.readouterr().err
    with pytest.raises(UserError, match=r"even as WebP of quality 80: pack fewer folders, or allow more"):
        write_pack([str(photos)], tmp_path / "small.pack", max_size=20_000)
    assert not (tmp_path / "small.pack").exists()


def test_the_command_says_what_is_in_a_pack(tmp_path, sources, capfd):
    path = tmp_path / "new" / "train.pack"
    assert exit_code(main, [*sources, "-o", str(path), "--max-size", "1G"]) == 0
    made = capfd.readouterr().out
    assert exit_code(main, ["--show", str(path)]) == 0
    said = capfd.readouterr().out
    assert said == made
    assert "photos: 13 pictures" in said
    assert "1 could not be read" in said
    assert "LR x2" in said
    assert "licences: LICENSE" in said
    with zipfile.ZipFile(path) as archive:
        assert archive.read("0/licences/0.txt") == b"Public domain.\n"


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["photos"], 2, "--output"),
        (["photos", "-o", "train.zip"], 2, ".pack"),
        (["-o", "train.pack"], 2, "nothing to pack"),
        (["", "-o", "train.pack"], 2, "nothing to pack"),
        (["/nowhere", "-o", "train.pack"], 2, "/nowhere"),
        (["photos", "-o", "train.pack", "--max-size", "much"], 2, "--max-size much"),
        (["photos", "-o", "train.pack", "--max-size", "1K"], 1, "allow more (--max-size)"),
        (["photos", "-o", "/dev/null/train.pack"], 1, "/dev/null"),
        (["--show"], 2, "--show"),
        (["--show", "none.pack"], 1, "none.pack"),
    ],
)
def test_what_cannot_be_packed_ends_in_one_line(tmp_path, monkeypatch, capfd, arguments, code, named):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos", [(40, 40)])
    assert exit_code(main, arguments) == code
    assert named in one_line(capfd)
    assert [p.name for p in tmp_path.iterdir()] == ["photos"]


def test_licences_of_one_name_are_all_kept(tmp_path, monkeypatch, recwarn):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "set" / "HR", [(24, 24)])
    (tmp_path / "set" / "README.md").write_text("of the set")
    (tmp_path / "set" / "HR" / "README.md").write_text("of the pictures")
    (source,) = write_pack(["set"], tmp_path / "set.pack").sources
    read = {name: source.archive.read(member).decode() for name, member in source.licences.items()}
    assert read == {"README.md": "of the set", "HR/README.md": "of the pictures"}
    write_photos(tmp_path / "flat", [(24, 24)])
    (tmp_path / "flat" / "LICENSE").write_text("of the folder")
    (source,) = write_pack(["flat"], tmp_path / "flat.pack").sources
    assert source.licences == {"LICENSE": "0/licences/0.txt"}
    assert not [warning for warning in recwarn if "Duplicate" in str(warning.message)]


@pytest.mark.parametrize(("text", "size"), [("60M", 60 * 2**20), ("1.5g", 3 * 2**29), ("700", 700), ("2KiB", 2048)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1M", "0", "60 T"])
def test_what_is_no_size(text):
    with pytest.raises(ConfigError, match="--max-size"):
        parse_size(text)


def rewritten(packed, path, change=lambda manifest: None, members=None, compression=zipfile.ZIP_STORED):
    """A copy with another manifest or other members."""
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            data = (members or {}).get(name, old.read(name))
            if name == MANIFEST:
                manifest = json.loads(data)
                data = json.dumps(change(manifest) or manifest)
            if data is not None:
                new.writestr(name, data)
    return path


def set_first(key, value):
    return lambda manifest: manifest["sources"][0]["hr"][0].update({key: value})


DAMAGES = {
    "empty": (lambda packed, path: path.write_bytes(b""), "is no pack, or cut short"),
    "cut short": (lambda packed, path: path.write_bytes(packed.read_bytes()[:-2000]), "is no pack, or cut short"),
    "a picture": (lambda packed, path: Image.new("L", (9, 9)).save(path, "PNG"), "is no pack, or cut short"),
    "another zip": (lambda packed, path: zipfile.ZipFile(path, "w").close(), "is a zip file, but no pack"),
    "another format": (lambda p, path: rewritten(p, path, lambda m: {"format": "x"}), "is a zip file, but no pack"),
    "a list": (lambda p, path: rewritten(p, path, lambda m: [1]), "is a zip file, but no pack"),
    "newer": (lambda p, path: rewritten(p, path, lambda m: {**m, "version": 2}), "is a pack of version 2"),
    "no sources": (lambda p, path: rewritten(p, path, lambda m: {**m, "sources": 3}), "its manifest is damaged"),
    "nothing in it": (lambda p, path: rewritten(p, path, lambda m: {**m, "sources": []}), "its manifest is damaged"),
    "no hash": (lambda p, path: rewritten(p, path, set_first("sha256", "xyz")), "its manifest is damaged"),
    "a path": (lambda p, path: rewritten(p, path, set_first("name", "../../x.png")), "its manifest is damaged"),
    "lost": (lambda p, path: rewritten(p, path, members={"0/HR/000003": None}), "is damaged at photos, alpha"),
    "changed": (lambda p, path: rewritten(p, path, members={"0/HR/000003": b"?"}), "is damaged at photos, alpha"),
    "elsewhere": (lambda p, path: rewritten(p, path, set_first("member", "/etc/passwd")), "is damaged at photos, 0"),
    "compressed": (lambda p, path: rewritten(p, path, compression=zipfile.ZIP_DEFLATED), "is compressed"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_pack_ends_in_one_line(tmp_path, packed, capfd, damage):
    make, message = DAMAGES[damage]
    path = tmp_path / "bad.pack"
    make(packed, path)
    config = tmp_path / "config.py"
    config.write_text(TRAINING.format(train=str(path), cache=str(tmp_path / "cache")))
    run = str(tmp_path / "run")
    for command, arguments in ((main, ["--show", str(path)]), (train, [str(config), "--workdir", run])):
        assert exit_code(command, arguments) == 1
        line = one_line(capfd)
        assert str(path) in line
        assert message in line


def test_a_pack_that_is_not_there_is_named(tmp_path, capfd):
    assert exit_code(main, ["--show", str(tmp_path / "no.pack")]) == 1
    assert "no.pack: cannot be read" in one_line(capfd)


def test_flipped_bytes_are_noticed_or_do_not_matter(tmp_path, packed):
    data, path = packed.read_bytes(), tmp_path / "bad.pack"
    whole = [p.sha256 for source in read_pack(packed).sources for p in source.pictures()]
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(packed) as archive:
        manifest = archive.getinfo(MANIFEST).header_offset
    for _ in range(300):  # most of them in the manifest and the directory behind it
        flipped = bytearray(data)
        flipped[rng.integers(manifest if rng.random() < 0.8 else 0, len(data))] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        with contextlib.suppress(UserError):
            pack = read_pack(path)
            assert [p.sha256 for source in pack.sources for p in source.pictures()] == whole


def test_a_flipped_byte_of_a_picture_names_it(tmp_path, packed):
    data = bytearray(packed.read_bytes())
    with zipfile.ZipFile(packed) as archive:
        start = archive.getinfo("0/HR/000003").header_offset
    data[start + 100] ^= 1
    (tmp_path / "bad.pack").write_bytes(data)
    with pytest.raises(UserError, match="is damaged at photos, alpha"):
        read_pack(tmp_path / "bad.pack")


@pytest.mark.slow
def test_a_run_from_folders_goes_on_from_the_pack_without_tensorflow(tmp_path):
    photos = write_photos(tmp_path / "photos", [(48, 48), (60, 50)])
    pack, config, run = tmp_path / "train.pack", tmp_path / "config.py", tmp_path / "run"
    config.write_text(TRAINING.format(train=str(photos), cache=str(tmp_path / "cache")))
    stopped = run_command_blocked("train", TENSORFLOW, config, "--workdir", run, "--max-minutes", "0.0001")
    assert stopped.returncode == 75, stopped.stderr[-2000:]
    done = run_command_blocked("pack", TENSORFLOW, photos, "-o", pack)
    assert done.returncode == 0, done.stderr
    for path in photos.iterdir():
        path.unlink()
    done = run_command_blocked("train", TENSORFLOW, config, "--workdir", run, "--data.train", pack)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "resumed at step 1 of 5" in done.stderr
    assert "cutting" not in done.stderr  # the same cache
