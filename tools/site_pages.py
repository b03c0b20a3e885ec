"""A hook of MkDocs: the documents in the repository's root become pages, and links between all of them work.

Links are written for the repository's web view, as ``../README.md`` in ``docs/`` and ``docs/export.md`` in
``README.md``. On the site all pages lie in one folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# In the repository's root, and on the site.
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "ARCHITECTURE.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "CHANGELOG.md": "CHANGELOG.md",
    "LICENSE": "LICENSE.txt",
}

_LINK = re.compile(r'(\]\(|src=")([^)"\s#]+)')
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Adds the documents of the root."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Rewrites the links of a page, outside of its code blocks."""
    in_root = page.file.src_uri in PAGES.values()
    parts = _FENCE.split(markdown)
    return "".join(
        part
        if part.startswith("```")
        else _LINK.sub(lambda found: found[1] + _on_site(found[2], in_root), part)
        for part in parts
    )


def _on_site(target: str, in_root: bool) -> str:
    """Returns where the file of a link lies on the site."""
    if in_root:
        return target.removeprefix("docs/") if target.startswith("docs/") else PAGES.get(target, target)
    return PAGES.get(target.removeprefix("../"), target) if target.startswith("../") else target
