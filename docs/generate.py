"""Writes the pages that come from elsewhere: the reference, the commands' help, the experiments, the changes.

    python docs/generate.py

`isr_jax.__all__` is the public surface, a page a floor; what docs/method.md names besides is on the same pages, below
it. Each entry that the method names leads back to its equation.
"""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from markdown.extensions.toc import slugify

import isr_jax
import isr_jax.config
from isr_jax.__main__ import COMMANDS
from isr_jax.files import replace_file

DOCS = Path(__file__).parent
ROOT = DOCS.parent

FLOORS = {
    "inference": "Models on pictures",
    "physics": "Physics: y = H x + n",
    "solver": "The solver",
    "pictures": "Pictures",
    "training": "Training",
    "benchmark": "Benchmark",
    "models": "Model files",
    "config": "Configuration",
}


def main() -> None:
    """Writes all pages."""
    for name, text in reference().items():
        write(f"reference/{name}.md", text)
    write("reference/commands.md", commands())
    write("results/experiments.md", (ROOT / "experiments/README.md").read_text().replace("](../docs/", "](../"))
    changes = re.sub(r"\]\(docs/", "](", (ROOT / "CHANGELOG.md").read_text())
    write("changes.md", re.sub(r"\[([^]]*)\]\([A-Z]\w*\.\w+\)", r"\1", changes))  # files of the repository are no pages


def reference() -> dict[str, str]:
    """Returns a page a floor, and the one that lists them all, by their names."""
    equations = read_equations((DOCS / "method.md").read_text())
    public = {home_of(getattr(isr_jax, name)): f"isr_jax.{name}" for name in isr_jax.__all__}
    for name in isr_jax.config.__all__:
        public.setdefault(home_of(getattr(isr_jax.config, name)), f"isr_jax.config.{name}")
    if homeless := [home for home in public if home.split(".")[1] not in FLOORS]:
        sys.exit(f"no page of the reference is for {', '.join(homeless)}; add it to FLOORS and to zensical.toml")
    behind = sorted(equations.keys() - public.keys() - set(public.values()))
    pages = {"index": index(public)}
    for floor, title in FLOORS.items():
        here = [entry(home, name, equations) for home, name in public.items() if home.startswith(f"isr_jax.{floor}.")]
        others = [entry(home, home, equations) for home in behind if home.startswith(f"isr_jax.{floor}.")]
        below = (
            ["## Behind it\n\nWhat the method names, and who only uses the package need not know.\n"] if others else []
        )
        pages[floor] = "\n".join([f"# {title}\n", *here, *below, *others])
    return pages


def home_of(found: Any) -> str:
    """Returns where an object, or a module, is defined, as "isr_jax.module.name"."""
    return found.__name__ if inspect.ismodule(found) else f"{found.__module__}.{found.__qualname__}"


def read_equations(method: str) -> dict[str, str]:
    """Returns the anchor of the section in which the method first names each object."""
    found, anchor = {}, ""
    for line in method.splitlines():
        if heading := re.match(r"##+ (.*)", line):
            anchor = slugify(heading[1], "-")
        for name in re.findall(r"\]\[(isr_jax[\w.]+)\]", line):
            found.setdefault(name, anchor)
    return found


def entry(home: str, name: str, equations: dict[str, str]) -> str:
    """Returns what the page of a floor says of one object: its docstring, and where its equation is."""
    section = equations.get(home, equations.get(name))
    way_back = f"[In the method](../method.md#{section})\n\n" if section else ""
    options = "    options:\n      heading_level: 3\n      show_root_heading: true\n      show_root_full_path: true\n"
    anchor = f" {{ #{name} }}" if name != home else ""
    title = f"## {name}{anchor}\n\n" if anchor else ""
    return f"{title}{way_back}::: {home}\n{options}"


def index(public: dict[str, str]) -> str:
    """Returns the page that leads to each public name."""
    lines = []
    for floor, title in FLOORS.items():
        names = [name for home, name in public.items() if home.startswith(f"isr_jax.{floor}.")]
        links = (f"[`{name.removeprefix('isr_jax.')}`]({floor}.md#{name})" for name in names)
        lines.append(f"- {title}: {', '.join(links)}")
    about = "What `import isr_jax` hands on; [what each of them is, and since when](surface.md)."
    return (
        f"# Reference\n\n{about} [The commands](commands.md) are the same from a shell.\n\n" + "\n".join(lines) + "\n"
    )


def commands() -> str:
    """Returns the help of every command, as the program prints it."""
    page = ["# Commands\n"]
    for command in ["", *COMMANDS]:
        words = [*command.split(), "--help"]
        run = [sys.executable, "-m", "isr_jax", *words]
        text = subprocess.run(run, capture_output=True, text=True, check=True, env=PLAIN).stdout
        page.append(f"## isr-jax {command}\n\n```text\n{text.rstrip()}\n```\n")
    return "\n".join(page)


PLAIN = {"COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "PATH": ""}
"""The environment in which the commands print their help."""


def write(name: str, text: str) -> None:
    """Writes a page, unless it is there already: a reader of `make docs-serve` sees only what has changed."""
    path = DOCS / name
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(exist_ok=True)
        replace_file(path, lambda new: new.write_text(text))


if __name__ == "__main__":
    main()
