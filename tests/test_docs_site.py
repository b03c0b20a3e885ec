"""The documentation site: it builds without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import make_reference
import numpy as np
import pytest
import skimage.data
import test_docs
import typer
from browser import browser  # noqa: F401  (a fixture)
from host_fixtures import ROOT
from PIL import Image
from test_docs import demo  # noqa: F401  (a fixture)

from mobilesr_plugin.cli.main import app
from mobilesr_plugin.data.bicubic import downscale, upscale
from mobilesr_plugin.data.photographs import photograph

PICTURE = ROOT / "docs/images/demo_abpn_x3.png"
SCREENS = 70  # lines of README.md: two screens


class Page(HTMLParser):
    """What a page loads, where it links to, and what can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.tables = 0
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        self.tables += tag == "table"
        if tag == "a":
            self.links.append(given.get("href", ""))
        elif tag == "link" and given.get("rel") not in ("canonical", "prev", "next"):
            self.loaded.append(given["href"])
        self.loaded += [given[name] for name in ("src", "srcset", "data", "poster") if name in given]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    pytest.importorskip("material", reason="needs mkdocs-material: pip install '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, Page]:
    return {
        str(path.relative_to(site)): Page(path) for path in site.rglob("*.html") if path.name != "404.html"
    }


def test_every_document_is_a_page(pages: dict[str, Page]) -> None:
    expected = {"index.html" if path.stem == "README" else f"{path.stem}.html" for path in test_docs.DOCS}
    assert set(pages) == expected


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[str, Page]) -> None:
    for name, page in pages.items():
        assert any(target.endswith(".css") for target in page.loaded), name
        assert any(target.endswith(".js") for target in page.loaded), name
        for target in page.loaded:
            assert not re.match(r"(https?:)?//", target), f"{name}: {target}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"""(url\(|@import)\s*["']?(https?:)?//""", sheet.read_text()), sheet


def test_local_links_lead_to_files_and_anchors(pages: dict[str, Page]) -> None:
    by_path = {page.path.resolve(): page for page in pages.values()}
    for name, page in pages.items():
        for target in [*page.loaded, *page.links]:
            if re.match(r"(https?|data|mailto|javascript):", target):
                continue
            file, _, anchor = target.partition("#")
            linked = (page.path.parent / file).resolve() if file else page.path.resolve()
            assert linked.exists(), f"{name}: {target}"
            if anchor:
                assert anchor in by_path[linked].anchors, f"{name}: {target}"


def test_markdown_reads_alike_on_the_site(pages: dict[str, Page]) -> None:
    """What the repository's web view takes for tables and code blocks, the site does too."""
    for path in test_docs.DOCS:
        page = pages["index.html" if path.stem == "README" else f"{path.stem}.html"]
        prose = test_docs.prose(path)
        assert page.tables == len(re.findall(r"^\|[-:|]*---[-:|]*\|$", prose, re.MULTILINE)), path.name
        html = page.path.read_text()
        blocks = len(re.findall(r"^```\w", path.read_text(), re.MULTILINE))
        blocks += len(re.findall(r"\n\n    \S", prose))
        assert len(re.findall('<div class="[^"]*highlight"', html)) == blocks, path.name
        assert not re.search(r"<p>(```|\||- |\d+\. |#)", html), path.name
        items = len(re.findall(r"^(?:- |\d+\. )", prose, re.MULTILINE))
        assert html.split("<article", 1)[1].split("</article>")[0].count("<li>") >= items, path.name


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site, served as a reader would serve it."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_search_finds_pages_and_asks_nobody_else(browser: Any, address: str) -> None:  # noqa: F811
    asked: list[str] = []
    tab = browser.new_page(viewport={"width": 1280, "height": 800})
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{address}/index.html", wait_until="networkidle")
    assert tab.locator("article img").evaluate("image => image.naturalWidth") == 896
    tab.locator("input[data-md-component=search-query]").click()
    tab.keyboard.type("percentile", delay=20)
    hit = tab.locator("a.md-search-result__link").first
    hit.wait_for(state="attached", timeout=20_000)
    assert re.search(r"/(quantization|options)\.html", hit.get_attribute("href"))
    tab.close()
    assert any(url.endswith("search_index.json") for url in asked)
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)


# References


def test_references_are_up_to_date() -> None:
    for path, text in make_reference.render().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: run `make reference`"


def test_every_option_is_in_the_reference() -> None:
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    found = 0
    for command, context in make_reference.walk(typer.main.get_command(app)):
        section = page.split(f"\n## {context.command_path}\n")[1].split("\n## ")[0]
        for param in command.get_params(context):
            if param.param_type_name == "option" and param.name != "help":
                assert all(f"`{name}`" in section for name in [*param.opts, *param.secondary_opts]), (
                    param.opts
                )
                found += 1
    assert found > 50


def test_allowed_values_are_those_of_the_code() -> None:
    page = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    assert "| `ranges` | text; learned, frozen | `learned` |" in page
    assert "| `percentile` | number; above 50 and at most 100 | `99.999` |" in page
    assert "| `threads` | integer, `~`; at least 1 | `~` |" in page


# README


def test_readme_is_short_and_has_one_picture() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= SCREENS
    pictures = re.findall(r'<img src="([^"]+)"|!\[[^]]*\]\(([^)]+)\)', text)
    assert [first or second for first, second in pictures] == [str(PICTURE.relative_to(ROOT))]
    assert PICTURE.stat().st_size < 300_000


def test_picture_is_that_of_the_demo(demo: Any) -> None:  # noqa: F811
    """Bicubic and ground truth are pixel for pixel the demo's, and the network's details lie between them."""
    shown = np.asarray(Image.open(PICTURE).convert("RGB"))
    results = []
    for name in ("astronaut.png", "coins.png"):
        truth = photograph(name)
        truth = truth[: truth.shape[0] // 12 * 12, : truth.shape[1] // 12 * 12]
        enlarged = upscale(downscale(truth, 3), 3)
        results.append({"bicubic": enlarged, "int8 TFLite as run": truth, "ground truth": truth})
    expected = np.asarray(demo._picture(results))
    assert shown.shape == expected.shape
    third = (shown.shape[1] - 8) // 3
    bicubic, device, truth = (slice(8 + column * third, (column + 1) * third) for column in range(3))
    details = slice(20, None)  # below the names
    assert np.array_equal(shown[details, truth], expected[details, truth])
    assert np.array_equal(shown[details, bicubic], expected[details, bicubic])
    errors = [
        np.square(shown[details, column].astype(float) - shown[details, truth]).mean()
        for column in (device, bicubic)
    ]
    assert 0 < errors[0] < 0.9 * errors[1]


def test_photographs_of_the_picture_are_free() -> None:
    for photographed in (skimage.data.astronaut, skimage.data.coins):
        assert "No known copyright restrictions" in photographed.__doc__
