"""The pages of the report and of `isr-jax serve`, and what they share."""

import html
import json
import re
from importlib import resources
from typing import Any


def render(page: str, *, data: Any, **parts: str) -> str:
    """Returns a page of this folder as one self-contained document.

    Args:
      page: File name of the page. `{{name}}` in it stands for a part, or for a file of this folder.
      data: What JSON holds; the page finds it as `{{data}}`.
      parts: HTML of the other parts.
    """
    # "</script>" inside the data would end it: "<" is the same character to JSON.
    parts["data"] = json.dumps(data, allow_nan=False).replace("<", "\\u003c")

    def part(match: re.Match[str]) -> str:
        return parts[match[1]] if match[1] in parts else _read(match[1])

    return re.sub(r"\{\{([a-z.]+)\}\}", part, _read(page))


def html_table(lines: list[list[str]], classes: list[str]) -> str:
    """Returns a table; the first line is its head. `classes` holds the class of each other line."""

    def row(cells: list[str], tag: str, kind: str) -> str:
        return f'<tr class="{kind}">' + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(row(cells, "td", kind) for cells, kind in zip(lines[1:], classes, strict=True))
    return f'<div class="scroll"><table><thead>{row(lines[0], "th", "")}</thead><tbody>{body}</tbody></table></div>'


def _read(name: str) -> str:
    return (resources.files(__package__ or "isr_jax.benchmark.web") / name).read_text(encoding="utf-8")
