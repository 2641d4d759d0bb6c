"""What a run's folder says of the run. Neither JAX nor the checkpoints are read."""

from datetime import datetime
from pathlib import Path

from isr_jax.training.records import RECORD, describe_evaluation, parse_record, read_json, read_lines


def is_run(folder: Path) -> bool:
    """Whether a folder is one of a run."""
    return any((folder / name).is_file() for name in ("config.json", "status.json", RECORD))


def describe_run(folder: Path) -> dict[str, str]:
    """Returns how a run stands, by the names of what is told."""
    status, config = read_json(folder / "status.json"), read_json(folder / "config.json")
    facts = {"run": str(folder)} | {key: str(value) for key, value in status.items() if value not in (None, "", {}, [])}
    if steps := config.get("steps"):
        facts.setdefault("steps", str(steps))
    record = folder / RECORD
    if record.is_file():
        lines = [line for text in read_lines(record) if (line := parse_record(text))]
        evaluations = [said for step, values in lines if (said := describe_evaluation(step, values))]
        facts |= {"last record": f"step {lines[-1][0]}"} if lines else {}
        facts |= {"last evaluation": evaluations[-1]} if evaluations else {}
        facts["record written"] = datetime.fromtimestamp(record.stat().st_mtime).astimezone().isoformat(" ", "seconds")
    return facts
