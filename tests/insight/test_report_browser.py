"""Pages in a browser: nothing is fetched, nothing runs, and they fit a phone, in dark and in light."""

import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from browser import find_axe, find_chromium, measure, open_page
from reports import Page, rows, write_run
from sweeps import sweep

from transfer3d.insight.pictures import figures
from transfer3d.insight.report import page
from transfer3d.insight.report.compare import comparison_page
from transfer3d.insight.report.page import POLICY, Section
from transfer3d.insight.report.record import Evaluation
from transfer3d.insight.report.run_page import run_page
from transfer3d.insight.report.sections import classes_section, confusion_section
from transfer3d.run.pages.run_record import differing_keys, read_run

pytestmark = pytest.mark.proc
PHONE = 390
LOOK = """page => {
  const [doc, style] = [page.document, node => page.getComputedStyle(node)];
  const text = selector => [...doc.querySelectorAll(selector)].map(node => style(node).color);
  return {
    width: doc.documentElement.scrollWidth, inner: page.innerWidth,
    paper: style(doc.body).backgroundColor,
    tile: style(doc.querySelector('.tile') || doc.body).backgroundColor,
    on_paper: [...text('p.note'), ...text('a'), ...text('dt'), style(doc.body).color],
    on_tile: text('.tile small'),
    captions: text('figcaption'), pictures: [...doc.images].map(image => image.naturalWidth),
    letters: [...doc.querySelectorAll('svg text')].map(node => style(node).fill),
    empty: [...doc.querySelectorAll('th')].filter(node => !node.textContent.trim()).length,
    cells: Math.max(0, ...[...doc.querySelectorAll('td, th')].map(node => node.offsetWidth)),
    drawings: [...doc.querySelectorAll('svg')].map(node => node.getBoundingClientRect().width),
    smallest: Math.min(...[...doc.querySelectorAll('body *:not(svg):not(svg *)')]
      .filter(node => node.innerText).map(node => parseFloat(style(node).fontSize))),
    fetched: page.performance.getEntriesByType('resource').length,
  }
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A run's page and a comparison, with everything that could be too wide."""
    find_chromium()
    root, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    classes = [f"a rather long name of class number {k}{'x' * 70 * (k % 2)}" for k in range(40)]
    confusion = rng.integers(0, 5, (40, 40))
    metrics = {
        "scored": int(confusion.sum()),
        "video_top1": 0.2,
        "video_top5": 0.4,
        "confusion": confusion.tolist(),
    }
    found = Evaluation(metrics=metrics, classes=classes, split="test", source="of a test", data="d")
    log = [
        *rows(9, loss=(4, 1), clip_accuracy=(0, 1), lr=(0.1, 0)),
        {"step": 9, "split": "val", "video_top1": 0.5},
    ]
    records = [
        replace(
            read_run(write_run(root / f"run_{'x' * 40}_{k}", log=log, seed=k, data="deep/" * 30)),
            evaluation=found,
        )
        for k in range(4)
    ]
    strip = page.png_figure(figures.film_strip(rng.integers(0, 256, (3, 8, 32, 32), dtype=np.uint8)), "noise")
    seen = [confusion_section(found), classes_section(found, dict.fromkeys(classes, strip))]
    return {
        "run": run_page(records[0], seen),
        "comparison": comparison_page(records, differing_keys(records)),
    }


def brightness(colour):
    """Relative luminance (WCAG 2.1) of `rgb(r, g, b)`."""
    values = np.array([float(part) for part in colour.strip("rgba()").split(",")[:3]]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def contrast(one, other):
    low, high = sorted((brightness(one), brightness(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    sweep(
        [
            (name, width, dark)
            for name in ("run", "comparison")
            for width, dark in ((PHONE, False), (PHONE, True), (1200, False))
        ],
        [("run", PHONE, True), ("comparison", 1200, False)],
    ),
)
def test_a_page_fits_and_can_be_read(pages, name, width, dark, tmp_path):
    seen = measure(pages[name], LOOK, tmp_path, width=width, dark=dark)
    assert seen["inner"] == width
    assert seen["width"] <= width
    assert seen["fetched"] == 0
    assert all(seen["pictures"])
    assert seen["drawings"]
    assert min(seen["drawings"]) > 250
    assert seen["cells"] <= 320  # a long name leaves room for other columns
    assert seen["smallest"] >= 12
    assert bool(brightness(seen["paper"]) < 0.1) is dark
    assert min(contrast(colour, seen["paper"]) for colour in seen["on_paper"]) >= 4.5
    assert min((contrast(colour, seen["tile"]) for colour in seen["on_tile"]), default=21) >= 4.5
    assert min(contrast(colour, seen["paper"]) for colour in seen["captions"] + seen["letters"]) >= 4.5
    assert seen["letters"]
    assert not seen["empty"]


SCROLL = """page => [...page.document.querySelectorAll('.wide')].map(box => {
  const left = () => box.querySelector('tbody th').getBoundingClientRect().left;
  const before = left();
  box.scrollLeft = 200;
  return [box.scrollLeft, left() - before];
})"""


def test_on_a_phone_the_first_column_stays_in_view_while_a_table_scrolls(pages, tmp_path):
    scrolled = measure(pages["comparison"], SCROLL, tmp_path, width=PHONE)
    assert max(way for way, _ in scrolled) > 50
    assert all(moved == 0 for _, moved in scrolled)


AXE = """page => new Promise(done => page.axe.run(page.document).then(found => done(
  found.violations.map(rule => `${rule.id}: ${rule.nodes[0].html}`))))"""


@pytest.mark.parametrize("name", ["run", "comparison"])
@pytest.mark.parametrize(("width", "dark"), [(PHONE, True), (1280, False)])
def test_axe_finds_no_violation(pages, name, width, dark, tmp_path):
    axe = find_axe().read_text(encoding="utf-8").replace("</script", "<\\/script")
    html = pages[name].replace(POLICY, "").replace("</body>", f"<script>{axe}</script></body>")
    assert measure(html, AXE, tmp_path, width=width, dark=dark) == []
    broken = html.replace("<main>", "<div>").replace("</main>", "</div>")  # so that the test itself can fail
    assert any(rule.startswith("region") for rule in measure(broken, AXE, tmp_path, width=width, dark=dark))


def test_the_dom_is_that_of_the_file(pages, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(pages["run"], encoding="utf-8")
    assert Page(open_page(file)).text == Page(pages["run"]).text


def test_the_policy_lets_nothing_out_and_nothing_run(tmp_path):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    bad = (
        f'<img src="{place}/image"><link rel="stylesheet" href="{place}/style">'
        f'<script src="{place}/script"></script>'
        f'<iframe src="{place}/frame"></iframe><div style="background:url({place}/background)">x</div>'
        "<script>document.body.innerHTML += 'ran'+'it'</script>"
    )
    whole = page.page("title", "note", [Section("section", [bad])])
    try:
        file = tmp_path / "kept.html"
        file.write_text(whole, encoding="utf-8")
        assert "ranit" not in open_page(file)
        assert not asked
        file.write_text(whole.replace(POLICY, ""), encoding="utf-8")  # so that the test itself can fail
        assert "ranit" in open_page(file)
        assert {"/image", "/style", "/script", "/frame"} <= set(asked)
    finally:
        server.shutdown()
        server.server_close()
