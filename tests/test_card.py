"""isr_jax.models.card: what Hugging Face reads of a model is what its file says; the shipped cards are up to date."""

import json

import pytest
from random_model import save_random_model

from isr_jax import evaluate, info
from isr_jax.__main__ import exit_code
from isr_jax.models.card import model_card
from isr_jax.models.model_file import SHIPPED, load_model, save_model, shipped_models

ROW = {"model": "isr-lite-x4", "dataset": "Set5", "scale": 4, "ensemble": True, "psnr_y": 31.8357, "ssim_y": 0.891}


def front_of(card: str) -> dict:
    """The facts for programs, by a reader of YAML."""
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize("name", shipped_models())
def test_a_shipped_model_has_its_card_beside_it(name):
    """As `isr-jax info NAME --card --results results/results.json` writes it; its scores are test_shipped's."""
    card, fresh = (SHIPPED / f"{name}.md").read_text(encoding="utf-8"), model_card(name)
    front, whole = front_of(card), front_of(fresh)
    results = front.pop("model-index")[0]["results"]
    assert front == whole
    assert ("BSDS500" in front.get("datasets", [])) is not name.endswith("-free")
    assert {result["dataset"]["name"] for result in results} == {"Set5", "Set14"}
    body, _, scores = card.partition("---\n\n")[2].partition("\n## Scores\n")
    assert body == fresh.partition("---\n\n")[2]
    for result in results:
        psnr = next(metric["value"] for metric in result["metrics"] if metric["type"] == "psnr")
        assert f"| {psnr:.2f} |" in scores


def test_scores_are_those_of_the_model_on_bicubic_pictures():
    other = {**ROW, "model": "isr-lite-x3"}
    blurred = {**ROW, "degradation": "blur=1"}
    assert model_card("isr-lite-x4", [other, blurred]) == model_card("isr-lite-x4")
    card = model_card("isr-lite-x4", [other, blurred, ROW])
    [result] = front_of(card)["model-index"][0]["results"]
    assert result["task"]["name"] == "x4 super-resolution +"
    assert [metric["value"] for metric in result["metrics"]] == [31.8357, 0.891]
    assert "| Set5 | x4, self-ensemble | 31.84 | 0.8910 |" in card


def test_ones_own_model(tmp_path, capfd):
    path = save_random_model(tmp_path / "mine.safetensors", scale=2)
    front = front_of(model_card(path))
    assert (front["license"], "datasets" in front) == ("unknown", False)
    save_model(path, load_model(path), {"license": "cc-by-4.0", "training_data": 'DIV2K: "800" photographs'})
    front = front_of(card := model_card(path))
    assert (front["license"], front["datasets"]) == ("cc-by-4.0", ["DIV2K"])
    assert '\n\nDIV2K: "800" photographs.\n' in card
    assert exit_code(info.main, [str(path), "--card"]) == 0
    assert capfd.readouterr().out == card


def test_results_that_are_none_give_one_line(tmp_path, capfd):
    for text in ("[]", "{}", '{"rows": [{}]}', '{"rows": 3}', "no"):
        (tmp_path / "r.json").write_text(text)
        argv = ["isr-lite-x4", "--card", "--results", str(tmp_path / "r.json")]
        assert exit_code(info.main, argv) == 2, text
        assert "r.json: not the JSON of evaluate or benchmark" in (said := capfd.readouterr().err)
        assert said.count("\n") == 1
    (tmp_path / "r.json").write_text('{"rows": [{"model": "isr-lite-x3"}, {"model": 5}]}')
    assert exit_code(info.main, argv) == 1
    assert "no scores of isr-lite-x4: they are of isr-lite-x3, 5" in capfd.readouterr().err
    assert exit_code(info.main, [*argv[:3], str(tmp_path / "none.json")]) == 1
    assert exit_code(info.main, [argv[0], *argv[2:]]) == 2
    assert "add --card" in capfd.readouterr().err


def test_the_json_of_evaluate_goes_in(tmp_path, capfd):
    from PIL import Image

    (tmp_path / "Set").mkdir()
    Image.effect_noise((40, 40), 40).save(tmp_path / "Set" / "a.png")
    path = save_random_model(tmp_path / "mine.safetensors", scale=2)
    out = tmp_path / "r.json"
    assert exit_code(evaluate.main, ["--model", str(path), "--data", str(tmp_path / "Set"), "--json", str(out)]) == 0
    capfd.readouterr()
    assert exit_code(info.main, [str(path), "--card", "--results", str(out)]) == 0
    assert f"| Set | x2 | {json.loads(out.read_text())['rows'][0]['psnr_y']:.2f} |" in capfd.readouterr().out
