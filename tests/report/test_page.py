"""The page of a run: whole, from nothing, and with damaged files; it parses and loads nothing from elsewhere."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from PIL import Image

from skill_fast.evaluate.suite import evaluate, write_json
from skill_fast.report.page import main, render

VOID = {"meta", "img", "br", "line", "circle", "polyline"}


class Page(HTMLParser):
    """Checks that tags nest and gathers text and attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.links, self.headings = [], "", [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, run, demo):
    """A run folder with everything that the page shows, and half a last line in its metrics."""
    folder = tmp_path_factory.mktemp("page") / "a <b> & run"
    shutil.copytree(run, folder)
    keys = ("loss", "teacher_entropy", "kl", "step_ms", "data_wait_ms", "products_per_s")
    lines = [
        json.dumps({"step": step} | {key: step / 7 + place for place, key in enumerate(keys)}) for step in range(9)
    ]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 9, "lo']))
    (folder / "exit.json").write_text('{"exit_code": 0, "reason": "done", "step": 8}')
    (folder / "skipped.jsonl").write_text('{"reason": "crc32"}\n{"reason": "crc32"}\n')
    write_json(folder / "evaluation.json", evaluate(run, demo, ["knn", "color", "retrieval"], device="cpu", threads=1))
    return folder


def test_a_finished_run(finished):
    text = render(finished, device="cpu")
    page = Page(text)
    assert page.headings == [*("a <b> & run", "Curves", "Scores", "Nearest neighbours", "Provenance", "Configuration")]
    assert text.count("<svg") == 4
    for words in ("ended with exit code 0 at step 8", "grey pixels", "colour\nentropy", "1 lines of metrics.jsonl"):
        assert words in page.text
    scores = json.loads((finished / "evaluation.json").read_text())["rows"]["trained"]
    assert f"{scores['knn/pattern/accuracy']:.3f}" in page.text
    assert re.search(r"photographs substituted\s*2", page.text)
    assert "seed: 5" in page.text


def test_it_loads_nothing_and_its_pictures_are_pictures(finished):
    text = render(finished, device="cpu")
    links = Page(text).links
    assert len(links) == 1 + 2 * 6
    assert all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert "default-src 'none'" in text and "<script" not in text
    assert "http" not in text.replace("http-equiv", "")
    for link in links:
        picture = Image.open(io.BytesIO(base64.b64decode(link.partition(",")[2])))
        picture.load()
        assert picture.format == "JPEG" and picture.width > 300


def test_a_run_that_has_only_begun_says_what_it_lacks(tmp_path):
    (tmp_path / "config.yaml").write_text("data: nowhere\n")
    page = Page(render(tmp_path))
    for words in ("no metrics.jsonl", "no evaluation.json", "no model.json", "no exit.json", "still running"):
        assert words in page.text


def test_damaged_files_are_named(tmp_path, finished):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    (folder / "evaluation.json").write_text('{"rows": {"trained": 3}}')
    (folder / "exit.json").write_text("{")
    (folder / "metrics.jsonl").write_text("\n\n")
    (folder / "teacher.safetensors").write_bytes(b"\x00" * 40)
    page = Page(render(folder))
    for words in ("evaluation.json is not what", "exit.json is not JSON", "no step with numbers", "not shown: "):
        assert words in page.text


def test_command(tmp_path, finished, capsys):
    out = tmp_path / "page.html"
    assert main([str(finished), "--out", str(out), "--device", "cpu"]) == 0
    assert "KiB" in capsys.readouterr().out
    Page(out.read_text())
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["nowhere", "--out", "page.html"], 3, "not a run folder"),
        (["RUN", "--out", "page.html", "--device", "tpu"], 2, "cpu, cuda"),
        (["RUN", "--out", "no/such/folder/page.html"], 2, "does not exist"),
    ],
)
def test_command_errors(tmp_path, monkeypatch, run, capsys, arguments, code, says):
    monkeypatch.chdir(tmp_path)
    assert main([str(run) if argument == "RUN" else argument for argument in arguments]) == code
    error = capsys.readouterr().err
    assert says in error and "Traceback" not in error
