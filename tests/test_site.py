"""The documentation: nav and files agree, links lead somewhere, blocks run, the built site asks nobody for anything."""

import functools
import http.server
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

import isr_jax
from tests.browser import find_barriers, needs_chromium, open_browser

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
SITE = ROOT / "build" / "site"
NAV = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
REFERENCE = {"index", "inference", "physics", "solver", "pictures", "training", "benchmark", "models", "config"}
GENERATED = {"changes.md", "results/experiments.md", *(f"reference/{name}.md" for name in [*REFERENCE, "commands"])}
"""What docs/generate.py writes."""
NOTEBOOKS = sorted([*DOCS.glob("course/*.py"), DOCS / "start.py"])
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).as_posix() not in GENERATED)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """What `make docs` has built; else it is built now, strictly, of pages that are not executed."""
    if SITE.exists():
        return SITE
    folder = tmp_path_factory.mktemp("project")
    for name in ("docs", "experiments"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("CHANGELOG.md", "zensical.toml"):
        shutil.copy(ROOT / name, folder)
    (folder / "isr_jax").symlink_to(ROOT / "isr_jax")
    tools = Path(sys.executable).parent
    notebooks = [str(path.relative_to(ROOT)) for path in NOTEBOOKS]
    for command in (
        [tools / "jupytext", "--quiet", "--to", "md", *notebooks],
        [sys.executable, "docs/generate.py"],
        [tools / "zensical", "build", "--strict"],
    ):
        done = subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True)
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return folder / "build" / "site"


def nav_pages(entries=NAV):
    """The pages of the navigation, in its order."""
    for entry in entries:
        value = entry if isinstance(entry, str) else next(iter(entry.values()))
        yield from [value] if isinstance(value, str) else nav_pages(value)


def stored(page):
    """Whether a page is there, or what it is made from."""
    return page in GENERATED or (DOCS / page).exists() or (DOCS / page).with_suffix(".py").exists()


def test_the_navigation_names_each_page_once_and_every_page_is_in_it():
    named = list(nav_pages())
    assert len(named) == len(set(named))
    assert not [page for page in named if not stored(page)]
    notebooks = {str(path.relative_to(DOCS).with_suffix(".md")) for path in NOTEBOOKS}
    assert notebooks | {str(path.relative_to(DOCS)) for path in PAGES} <= set(named)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiments/README.md"])
def test_links_from_the_repository_lead_to_files(name):
    assert_links(ROOT / name)


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda path: str(path.relative_to(DOCS)))
def test_links_of_the_pages_lead_to_pages(path):
    assert_links(path)


def assert_links(path):
    """Every relative link of a page leads to something that is there, or that `make docs` makes."""
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", path.read_text(), flags=re.S)):
        target = unquote(urlsplit(link).path)
        if urlsplit(link).scheme or not target or "%" in link:
            continue
        found = (path.parent / target).resolve()
        inside = found.relative_to(DOCS).as_posix() if found.is_relative_to(DOCS) else ""
        assert found.exists() or (inside and stored(inside)), f"{path.relative_to(ROOT)}: {link}"


def test_the_reference_has_each_public_name_once_and_what_the_method_names():
    pytest.importorskip("markdown", reason="the docs extra is not installed: make docs")
    generate = runpy.run_path(str(DOCS / "generate.py"))
    pages = generate["reference"]()
    assert set(pages) == REFERENCE
    homes = re.findall(r"^::: (\S+)$", "\n".join(pages.values()), flags=re.M)
    headings = re.findall(r"^## (isr_jax\.\S+) \{", "\n".join(pages.values()), flags=re.M)
    assert len(homes) == len(set(homes))
    assert len(headings) == len(set(headings))
    assert {f"isr_jax.{name}" for name in isr_jax.__all__} <= set(headings)
    named = set(re.findall(r"\]\[(isr_jax[\w.]+)\]", (DOCS / "method.md").read_text()))
    assert named <= {*homes, *headings}
    assert "\n".join(pages.values()).count("[In the method]") >= len(named) - 1


# ------------------------------------------------------------------------------------------------------------- blocks


def blocks(page):
    """The Python and shell blocks of a page that are to be run: those with no comment above them that says why not."""
    found = re.finditer(r"(<!-- not run: [^>]*-->\n)?^```(python|bash)\n(.*?)^```", page.read_text(), flags=re.S | re.M)
    return [(match[2], match[3]) for match in found if not match[1]]


RUNNABLE = [page for page in PAGES if page.parent.name == "how-to" and blocks(page)]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run_one_after_the_other(page, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("photos/one.png", "photos/two.png", "Set5/HR/one.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        smooth = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((96, 72), Image.Resampling.BICUBIC)
        smooth.save(tmp_path / name)
    small = Image.open(tmp_path / "photos/one.png").resize((96, 64))
    for name in ("photo.png", "photo.jpg", "small.png", "scan.png"):
        small.save(tmp_path / name)
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "isr-jax"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m isr_jax "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": os.pathsep.join([str(program.parent), os.environ["PATH"]]),
    }
    script = "\n".join(
        code if language == "python" else f"import subprocess\nsubprocess.run(['bash', '-ec', {code!r}], check=True)"
        for language, code in blocks(page)
    )
    run = [sys.executable, "-c", script]
    done = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


# ----------------------------------------------------------------------------------------------------- the built site


@pytest.mark.slow
def test_the_built_site_links_to_itself_and_loads_nothing_from_elsewhere(site):
    wrong = []
    anchors = {}

    def anchors_of(page):
        if page not in anchors:
            anchors[page] = set(re.findall(r'\b(?:id|name)="?([^"\s>]+)', page.read_text()))
        return anchors[page]

    for page in site.rglob("*.html"):
        text = page.read_text()
        assert "klzzwxh" not in text, f"{page.name}: mathematics that Markdown has taken apart"
        for tag, link in re.findall(r'<(\w+)[^>]*?\s(?:src|href)="?([^"\s>]*)', text):
            parts = urlsplit(link)
            if parts.scheme in ("http", "https"):
                wrong += [f"{page.name} loads {link}"] if tag not in ("a", "link") or is_loaded(text, link) else []
            elif parts.scheme == "" and page.name != "404.html" and (parts.path or parts.fragment):
                target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
                target = target / "index.html" if target.is_dir() else target
                if not target.exists():
                    wrong.append(f"{page.name}: {link}")
                elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in anchors_of(target):
                    wrong.append(f"{page.name}: {link} has no such place")
    for sheet in site.rglob("*.css"):
        wrong += [f"{sheet.name} loads {url}" for url in re.findall(r"url\([\"']?(https?:[^)]*)\)", sheet.read_text())]
    assert not wrong


def is_loaded(text, link):
    """Whether a link that is outside is of a style sheet, a font or a script."""
    tags = re.findall(rf"<link[^>]*{re.escape(link)}[^>]*>", text)
    return any(re.search(r"stylesheet|preload|preconnect|icon", tag) for tag in tags)


@pytest.mark.slow
def test_sections_of_docstrings_are_sections(site):
    for page in (site / "reference").glob("*.html"):
        shown = re.sub(r"<pre.*?</pre>|<code.*?</code>", "", page.read_text(), flags=re.DOTALL)
        assert not re.search(r"(?<!\*\*)(?<!<strong>)(?<!title\">)\b(Raises|Examples|References): ", shown), page.name


@needs_chromium
@pytest.mark.skipif(not SITE.exists(), reason="the documentation is not built here: make docs")
def test_the_built_site_works_without_the_network(site):
    handler = functools.partial(QuietHandler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for width, scheme in ((390, "dark"), (1280, "light")):
            with open_browser(viewport={"width": width, "height": 900}, color_scheme=scheme) as page:
                asked = []
                page.on("request", lambda request, asked=asked: asked.append(request.url))
                for name in ("index", "course/solver", "method", "reference/solver", "how-to/onnx"):
                    page.goto(f"{address}/{name}.html")
                    page.wait_for_load_state("networkidle")
                    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                    assert wide <= 0, f"{name} is {wide} pixels too wide for {width}"
                    assert not [barrier for barrier in find_barriers(page) if barrier.startswith("color-contrast")]
                if width == 1280:
                    page.keyboard.press("Control+k")
                    page.keyboard.type("conjugate gradients")
                    page.get_by_role("option", name="conjugate_gradients").first.wait_for()
                assert asked
                assert not [url for url in asked if not url.startswith((address, "data:", "blob:"))]
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves the site and says nothing."""

    def log_message(self, *_):
        """Says nothing."""
