"""The documentation as a site: built without a warning, with every page, public name and recipe key."""

import json
import os
import re
import runpy
import subprocess
import sys

import pytest
from blocks import ROOT

import transfer3d
import transfer3d.data
from transfer3d.data.augment import AugmentConfig
from transfer3d.engine.optim import OptimizerConfig
from transfer3d.engine.schedule import ScheduleConfig
from transfer3d.objectives.config import CorrespondenceConfig
from transfer3d.recipes.schema import ClipConfig, Recipe

pytest.importorskip("material", reason="the site needs the extra: pip install 'transfer3d[docs]'")
pytest.importorskip("mkdocstrings", reason="the site needs the extra: pip install 'transfer3d[docs]'")

PAGES = sorted((ROOT / "docs").glob("*.md"))


def build(folder, *, config=ROOT / "mkdocs.yml"):
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--config-file",
        str(config),
        "--site-dir",
        str(folder),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr
    return folder


def text_of(site, name):
    return (site / name / "index.html").read_text(encoding="utf-8")


def test_every_page_is_there_and_found_by_search(site):
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    places = {entry["location"].split("#")[0] for entry in index["docs"]}
    assert places == {"", *(f"{page.stem}/" for page in PAGES)}


def test_the_first_page_is_the_readme_with_links_that_work(site):
    links = re.findall(r"\]\(docs/([\w.-]+)\.md", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert {page.stem for page in PAGES} == set(links)
    first = text_of(site, "")
    assert not [link for link in links if f'href="{link}/' not in first]
    assert (site / "images" / "demo.png").is_file()
    assert 'src="images/demo.png"' in first


@pytest.mark.parametrize(
    "module", [transfer3d, transfer3d.data, transfer3d.recipes], ids=lambda module: module.__name__
)
def test_every_public_name_has_its_docstring_once(site, module):
    names = re.findall(rf'<h3 id="{re.escape(module.__name__)}\.(\w+)"', text_of(site, "api"))
    assert sorted(names) == sorted(module.__all__)


def test_the_arguments_of_a_function_are_listed_with_their_texts(site):
    text = text_of(site, "api").split('id="transfer3d.inflate"')[1].split("<h3")[0]
    assert "inflation.inflation" not in text.split("Parameters")[0]
    for word in ("network", "Raises", "UsageError"):
        assert word in text


@pytest.mark.parametrize(
    "model", [Recipe, ClipConfig, AugmentConfig, OptimizerConfig, ScheduleConfig, CorrespondenceConfig]
)
def test_every_recipe_key_is_there_once(site, model):
    path = f"{model.__module__}.{model.__name__}"
    names = re.findall(rf'<h3 id="{re.escape(path)}\.(\w+)"', text_of(site, "recipe-keys"))
    assert sorted(names) == sorted(model.model_fields)


def test_nothing_comes_from_other_servers_and_no_page_has_a_path_of_this_machine(site):
    for file in site.rglob("*.html"):
        page = file.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*src="([^"]+)"', page)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="([^"]+)"', page)
        assert not [address for address in loaded if re.match(r"(\w+:)?//", address)], file
        assert str(ROOT) not in page


def test_every_column_of_a_table_has_a_name(site):
    for page in PAGES:
        assert not re.search(r"<th[^>]*>\s*</th>", text_of(site, page.stem)), page


def test_a_link_to_nowhere_is_an_error(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# A\n\n[b](b.md) [c](#c)\n")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("validation:")
    config = f"site_name: a\nstrict: true\n{settings[1]}{settings[2]}"
    (tmp_path / "mkdocs.yml").write_text(config)
    done = build(tmp_path / "site", config=tmp_path / "mkdocs.yml")
    assert done.returncode == 1
    assert "'b.md'" in done.stderr
    assert "'#c'" in done.stderr


def test_the_readmes_links_are_those_of_a_page_in_docs():
    hook = runpy.run_path(str(ROOT / "tools" / "site_hook.py"))
    assert hook["first_page"]("[a](docs/a.md#b) ![c](docs/images/c.png) [d](https://e/docs/)") == (
        "[a](a.md#b) ![c](images/c.png) [d](https://e/docs/)"
    )
