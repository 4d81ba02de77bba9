"""mkdocs's hook: README.md is the first page of the site, with its links as they are below docs/."""

# pyright: reportMissingImports=false
# mkdocs is an extra.

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def first_page(readme: str) -> str:
    """Returns the README as it is as a page in docs/."""
    return readme.replace("](docs/", "](")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the page."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=first_page(readme)))
    return files
