"""A model's card as Hugging Face reads it: facts for programs in front (YAML), for people below.

It is made of the model's file alone, and of scores that were taken of it. The fields are those of
https://huggingface.co/docs/hub/model-cards.
"""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from isr_jax.config import UserError
from isr_jax.models.description import describe
from isr_jax.models.model_file import MODEL_FILE, find_model, read_metadata, shipped_models

_DATASETS = ("BSDS500", "DF2K", "DIV2K", "Flickr2K", "LSDIR", "T91")
"""Those that a file's account of its training data is searched for."""

_TAGS = ("super-resolution", "image-restoration", "deep-unrolling", "jax", "flax")

_TOLD = ("for", "scale", "physics", "wants to know", "parameters", "multiply-adds", "sees", "sha256")
"""The facts that a reader of the card is told."""

_MEASURES = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y"}


def model_card(model: str | os.PathLike, rows: Iterable[Mapping[str, Any]] = ()) -> str:
    """Returns the card of a model.

    Args:
      model: A shipped name, a model file, or a run folder.
      rows: Scores, as `Row.as_dict` has them; those of other models, or of other LR pictures than bicubic ones, are
        passed over.
    Raises:
      ConfigError: If there is no such model.
      UserError: If the file is not a model, or there are scores, but none of it.
    """
    path, rows = find_model(model), list(rows)
    metadata, facts = read_metadata(path), describe(model)
    name = path.stem if path.stem != "model" else path.resolve().parent.name
    # "below" are the licences in the docs.
    trained_on = str(metadata.get("training_data", "")).removesuffix(", named below")
    shipped = name in shipped_models()
    own = [row for row in rows if _is_of(row["model"], path, name)]
    if rows and not own:
        known = ", ".join(dict.fromkeys(str(row["model"]) for row in rows))
        raise UserError(f"the results have no scores of {model}: they are of {known}")
    scores = [row for row in own if not row.get("degradation") and all(row.get(m) for m in _MEASURES)]
    front = {
        "license": metadata.get("license", "mit" if shipped else "unknown"),
        "library_name": "isr_jax",
        "pipeline_tag": "image-to-image",
        "tags": list(_TAGS),
        "datasets": [dataset for dataset in _DATASETS if dataset in trained_on],
        "metrics": ["psnr", "ssim"],
    }
    parts = ["\n".join(["---", *_yaml(front), *_model_index(name, scores), "---"]), f"# {name}"]
    parts.append("\n".join(f"- {key}: {facts[key]}" for key in _TOLD))
    load = f'big = isr_jax.load({json.dumps(name)}).upscale("photo.png")'
    parts.append(f"```python\nimport isr_jax\n\n{load}\n```")
    if trained_on:
        parts.append(f"## Training data\n\n{trained_on[0].upper()}{trained_on[1:]}.")
    if history := metadata.get("history"):
        parts.append("## Training\n\n" + "\n".join(f"1. {_in_words(run)}" for run in history))
    if scores:
        head = f"| set | scale | {' | '.join(_MEASURES.values())} |\n| --- | --- | --- | --- |"
        parts.append("\n".join(["## Scores", "", head, *map(_line, scores)]))
    return "\n\n".join(parts) + "\n"


def _is_of(model: Any, path: Path, name: str) -> bool:
    """Whether a row's model is that of a file."""
    if model in (str(path), name):
        return True
    return isinstance(model, str) and any(
        file.exists() and file.samefile(path) for file in (Path(model), Path(model) / MODEL_FILE)
    )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a JSON file of `isr-jax evaluate` or `isr-jax benchmark`.

    Raises:
      OSError: If there is no such file.
      ValueError: If it holds no rows.
    """
    rows = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(rows, dict) or not all("model" in row for row in rows.get("rows", [{}])):
        raise ValueError("it has no rows")
    return rows["rows"]


def _yaml(values: Mapping[str, Any]) -> list[str]:
    """Returns the lines of a flat mapping; what JSON spells is YAML, too."""
    lines = []
    for key, value in values.items():
        if isinstance(value, list):
            lines += [f"{key}:", *(f"- {json.dumps(item, ensure_ascii=False)}" for item in value)] if value else []
        else:
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    return lines


def _model_index(name: str, scores: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the scores as Hugging Face lists them."""
    results = [
        {
            "task": {"type": "image-to-image", "name": f"x{row['scale']} super-resolution" + " +" * row["ensemble"]},
            "dataset": {"type": row["dataset"], "name": row["dataset"]},
            "metrics": [
                {"type": measure.partition("_")[0], "name": title, "value": round(row[measure], 4)}
                for measure, title in _MEASURES.items()
            ],
        }
        for row in scores
    ]
    if not results:
        return []
    return ["model-index:", f"- name: {json.dumps(name)}", "  results:", *(f"  - {json.dumps(r)}" for r in results)]


def _line(row: Mapping[str, Any]) -> str:
    scale = f"x{row['scale']}" + ", self-ensemble" * row["ensemble"]
    return f"| {row['dataset']} | {scale} | {row['psnr_y']:.2f} | {row['ssim_y']:.4f} |"


def _in_words(run: Mapping[str, Any] | str) -> str:
    return run if isinstance(run, str) else ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in run.items())
