"""The report: nothing drawn without a record, nothing left out with one, and pages that say what the records say."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.archive import FOLDER, Record, newest, newest_run, read
from benchmarks.charts import CHARTS, drawn
from benchmarks.charts.kernels import gb_per_s_of
from benchmarks.charts.step import ablation, in_order
from benchmarks.charts.throughput import times_as_fast, whiskers
from benchmarks.report import BEGIN, END, NO_GPU, ROOT, between_markers, figures, index_page, main, web_page
from benchmarks.tables import number
from shards.errors import BadData
from tests.benchmarks.rows import FIRST, GPU, gpu_rows, train, write

FROM_RECORDS = {chart.name for chart in CHARTS} - {"scaling"}
"""Charts that show nothing but records; scaling is a model that can be drawn without any."""


class Page(HTMLParser):
    """What stands in a page: tags, and pictures by the id of their figure."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.open: list[str] = []
        self.pictures: dict[str, str] = {}
        self._figure = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)
        if tag == "figure":
            self._figure = given["id"]
        if tag == "img":
            self.pictures[self._figure] = given["src"]
        assert not any(name.startswith("on") for name in given)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def gpu(tmp_path_factory) -> list[Record]:
    return read(write(tmp_path_factory.mktemp("records"), gpu_rows()))


@pytest.fixture(scope="module")
def full_page(gpu) -> str:
    return web_page(gpu)


def test_what_the_repository_shows_is_what_its_records_say(capsys):
    assert main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", ["README.md", "records/README.md"])
def test_a_stale_page_is_found(tmp_path, page, capsys):
    (tmp_path / "README.md").write_text(f"# X\n{BEGIN}\n{END}\nrest\n")
    write(tmp_path / "records", gpu_rows())
    how = ["--records", str(tmp_path / "records"), "--readme", str(tmp_path / "README.md")]
    assert main(how) == 0
    assert main([*how, "--check"]) == 0
    path = tmp_path / page
    path.write_text(path.read_text().replace("3,000", "3,001"))
    assert main([*how, "--check"]) == 1
    assert f"{path} is not what the records say" in capsys.readouterr().err


def test_readme_without_markers_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# nothing here")
    with pytest.raises(BadData, match="lacks the two lines"):
        between_markers(tmp_path / "README.md", "text")


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_picture_is_drawn_from_full_records(chart, gpu):
    picture = drawn(chart, gpu)
    assert picture is not None
    assert ET.fromstring(picture).tag.endswith("svg")
    assert picture == drawn(chart, gpu), "the same records must give the same bytes"


@pytest.mark.parametrize("chart", [c for c in CHARTS if c.name in FROM_RECORDS], ids=lambda chart: chart.name)
def test_nothing_is_drawn_without_a_record(chart):
    assert drawn(chart, []) is None


def test_absent_kinds_are_named_with_the_command_that_makes_them():
    page = Page(text := web_page([]))
    assert page.pictures.keys() <= {"scaling"}
    assert text.count("no record yet") >= len(FROM_RECORDS)
    assert "benchmarks.peers" in text and escape(NO_GPU.strip("*")) in text


def test_page_is_self_contained_whole_and_without_script(full_page):
    page = Page(full_page)
    assert not page.open
    assert set(page.pictures) == {chart.name for chart in CHARTS}
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for source in page.pictures.values():
        assert source.startswith("data:image/svg+xml;base64,")
        svg = base64.b64decode(source.partition(",")[2])
        assert not re.search(rb'(?:href|src)="(?!#)', svg), "a picture must not load anything"


def test_a_hostile_record_stays_text(tmp_path):
    rows = [train("total <script>alert(1)</script>", 1.0)]
    assert "<script" not in web_page(read(write(tmp_path, rows)))


def test_readme_says_plainly_that_there_is_no_gpu_record():
    cpu = [r for r in read(FOLDER) if not r.on_gpu]
    assert figures(cpu, "x/").startswith(NO_GPU)


def test_readme_names_machine_commit_and_date(gpu):
    text = figures(gpu, "benchmarks/records/")
    row = next(line for line in text.splitlines() if "photographs from disk" in line)
    link = "[2030-01-02](benchmarks/records/2030-01-02-all-gpu.jsonl)"
    assert "3,000 products/s | Made-up GPU, 16 cores of Made-up CPU | aaaaaaaa | " + link in row
    assert "training to the original DINO recipe | 6.00 times" in text
    assert NO_GPU not in text


def test_the_default_is_the_first_figure_and_the_best_of_its_own_workload_beside_it(tmp_path):
    """A faster row with another model, without recipes, or with layers left out is other training."""
    rows = [train("total", 60.0, FIRST, model="s") | {"repeats": 9}, train("total", 50.0, model="s") | {"repeats": 2}]
    rows += [train("total, batch 512", 70.0, model="s", batch=512) | {"repeats": 1}]
    rows += [train("total, threads 4", 65.0, model="s") | {"repeats": 1}]
    others = {"model": "xs", "recipes": "none", "drop_path_by_subset": True}
    rows += [train(f"total, {name} {other}", 900.0, **{"model": "s", name: other}) for name, other in others.items()]
    rows += [train("total, batch 64", 800.0, FIRST, model="s", batch=64)]
    text = figures(read(write(tmp_path, rows)), "")
    best = "the fastest of 2 other settings, batch 512: 70 products/s (1 round)"
    assert f"photographs from disk: s | 50 products/s (2 rounds); {best} |" in text
    rows[2]["value"], rows[3]["value"] = 50.0, 49.0
    text = figures(read(write(tmp_path, rows)), "")
    assert "photographs from disk: s | 50 products/s (2 rounds) |" in text


def test_what_could_not_run_stands_in_the_table(gpu):
    assert "can not: exit code 1: no memory" in index_page(gpu)


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", '{"value": 1}', '{"what": "a/b", "value": "3"}', '{"what": "a/b", "value": null}',
     '{"what": "a/b", "value": NaN}', '{"what": "a/b", "value": true}', "[" * 100_000],
)  # fmt: skip
def test_what_is_no_record_is_refused_by_file_and_line(tmp_path, line, capsys):
    (tmp_path / "r.jsonl").write_text(json.dumps(train("total", 1.0)) + f"\n\n{line}\n")
    with pytest.raises(BadData, match=r"r\.jsonl:3: "):
        read(tmp_path)
    assert main(["--records", str(tmp_path), "--html", str(tmp_path / "page.html")]) == 0
    assert "left out: " in (told := capsys.readouterr().err) and "r.jsonl:3: " in told
    assert "total" in (tmp_path / "README.md").read_text()
    assert main(["--records", str(tmp_path), "--check"]) == 3
    assert "r.jsonl:3: " in capsys.readouterr().err


def test_newest_run_prefers_the_gpu_and_takes_one_run(tmp_path):
    cpu = train("total", 5.0, "2031-01-01T00:00:00+00:00") | {"gpu": None}
    records = read(write(tmp_path, [cpu, train("total", 1.0, FIRST), train("total", 2.0), train("headroom", 3.0)]))
    assert [r.value for r in newest_run(records)] == [2.0, 3.0]
    assert sorted(r.value or 0 for r in newest(records)) == [2.0, 3.0, 5.0]


def test_ablation_is_beside_the_base_of_its_run(gpu):
    wanted = {"train: compile False": 0.6, "train: stage 2": 2900 / 3000, "step: packed": 1.25}
    assert ablation(gpu) == pytest.approx(wanted)
    assert not ablation([r for r in gpu if r.name not in ("total", "base")])


def test_phases_come_in_the_order_of_a_step_and_unknown_ones_last():
    assert in_order(["rest", "teleport", "backward", "data"]) == ["data", "backward", "rest", "teleport"]


def test_figures_of_charts_by_hand(gpu):
    fused = next(r for r in gpu if r.what == "kernels/ema/fused")
    assert gb_per_s_of(fused) == pytest.approx(630e6 / 0.2e-3 / 1e9)
    slower = Record(dict(fused.fields) | {"value": 0.4}, "", 1)
    assert times_as_fast(fused, slower) == pytest.approx(0.5)
    rates = [Record(train("total", value), "", 1) for value in (100.0, 150.0)]
    assert times_as_fast(*rates) == pytest.approx(1.5)
    loader = next(r for r in gpu if r.what == "loader/ours")
    assert whiskers(loader) == [[100.0], [100.0]]
    assert [number(v) for v in (0.87214, 83.2803, 11304.04)] == ["0.8721", "83.28", "11,304"]


def test_machine_names_a_gpu_only_where_it_worked():
    on_cpu = Record({"what": "a/b", "device": "cpu", **GPU}, "", 1)
    assert not on_cpu.on_gpu and on_cpu.machine == "16 cores of Made-up CPU"


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
COUNT = """<script>addEventListener("load", () => { document.body.dataset.shown =
[...document.images].filter(i => i.complete && i.naturalWidth > 200 && i.getBoundingClientRect().width > 200)
.map(i => i.closest("figure").id).join(" ") })</script>"""


def browse(page: Path, profile: Path, *options: str) -> tuple[str, str]:
    """(the page's DOM after loading, what the browser logged)."""
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={profile}"]
    command += ["--enable-logging=stderr", "--virtual-time-budget=5000", "--window-size=1200,4000", *options]
    done = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: the page was parsed, but not opened")
def test_page_opens_in_a_browser_with_every_picture(tmp_path, full_page):
    page = tmp_path / "page.html"
    page.write_text(full_page, encoding="utf-8")
    shot = tmp_path / "shot.png"
    _, logged = browse(page, tmp_path / "one", f"--screenshot={shot}")
    assert "CONSOLE" not in logged, logged
    assert shot.stat().st_size > 50_000
    # The page's own policy forbids scripts, so a copy without it counts the pictures that were laid out.
    counted = tmp_path / "counted.html"
    counted.write_text(re.sub(r"<meta http-equiv[^>]*>", "", full_page).replace("</head>", f"{COUNT}</head>"))
    dom, logged = browse(counted, tmp_path / "two", "--dump-dom")
    assert "CONSOLE" not in logged, logged
    shown = re.search(r'data-shown="([^"]*)"', dom)
    assert shown and set(shown[1].split()) == {chart.name for chart in CHARTS}


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_broken_page_would_be_seen(tmp_path, full_page):
    broken = tmp_path / "broken.html"
    script = "<script>nonexistent.call()</script>"
    broken.write_text(full_page.replace("</body>", f"{script}</body>"))
    _, logged = browse(broken, tmp_path / "one", "--dump-dom")
    assert "CONSOLE" in logged, "the page's policy should have refused the script, loudly"


def test_documents_name_the_page():
    assert "benchmarks.report" in (ROOT / "docs" / "benchmarks.md").read_text()
