"""What the pictures show: what was measured, each thing told from the others, and nothing left out without a word."""

from __future__ import annotations

from itertools import combinations

import matplotlib
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from benchmarks.archive import FOLDER, Record, read
from benchmarks.charts import CHARTS, STYLE, kernels, step, throughput, waiting
from tests.benchmarks.rows import FIRST, GPU, PHASES, SECOND, gpu_rows, train, write
from tests.benchmarks.test_bench_train import PARTS

LEAST_COLOUR_DISTANCE = 0.2
"""Of two colours in RGB, where black and white are 1.73 apart: what an eye tells apart in a legend."""


@pytest.fixture(scope="module")
def gpu(tmp_path_factory) -> list[Record]:
    return read(write(tmp_path_factory.mktemp("records"), gpu_rows()))


@pytest.fixture(scope="module")
def repository() -> list[Record]:
    return read(FOLDER)


def texts(figure) -> str:
    """All that is written in a figure, spaces and line ends alike."""
    return " ".join(" ".join(found.get_text().split()) for found in figure.findobj(matplotlib.text.Text))


def legend_colours(figure) -> dict[str, str]:
    handles, labels = figure.axes[0].get_legend_handles_labels()
    return {label: matplotlib.colors.to_hex(bars[0].get_facecolor()) for label, bars in zip(labels, handles) if
            hasattr(bars, "patches")}  # fmt: skip


def test_names_of_phases_are_those_that_the_suite_writes(repository):
    written = {name for record in repository for name in record.fields.get("phases_ms") or {}}
    assert written == PARTS == set(PHASES) == set(step.PHASES)


def test_every_phase_of_real_records_has_a_colour_of_its_own(repository):
    shown = legend_colours(step.breakdown(repository))
    assert set(shown) == PARTS
    for (one, a), (other, b) in combinations(shown.items(), 2):
        apart = sum((x - y) ** 2 for x, y in zip(to_rgb(a), to_rgb(b))) ** 0.5
        assert apart >= LEAST_COLOUR_DISTANCE, f"{one} {a} and {other} {b}"


def test_phases_are_drawn_as_measured_and_the_median_step_is_a_mark(tmp_path):
    row = train("total", 10.0) | {"step_ms": {"p50": 90.0, "p99": 99.0}}
    (axes,) = step.breakdown(read(write(tmp_path, [row]))).axes
    widths = [bar.get_width() for bar in axes.patches if bar.get_width()]
    assert sorted(widths) == sorted(PHASES.values())
    assert sum(widths) == pytest.approx(125.0), "longer than the median step of 90 ms, and so drawn"
    assert [list(line.get_xdata()) for line in axes.lines if line.get_label() == "median step"] == [[90.0, 90.0]]


def test_every_row_with_phases_is_drawn(tmp_path):
    rows = [train(f"total, batch {n}", float(n)) for n in range(1, 24)]
    (axes,) = step.breakdown(read(write(tmp_path, rows))).axes
    assert len(axes.get_yticklabels()) == 23


def test_waiting_is_shown_of_training_from_disk_only_and_what_is_left_out_is_said(tmp_path):
    names = [f"{row}, batch {n}" for n in range(1, 21) for row in ("total", "headroom", "compute only")]
    rows = [train(name, 10.0) for name in names]
    failed = train("total, backend x", 1.0) | {"value": None, "can_not": "no such backend"}
    del failed["data_wait_share"], failed["phases_ms"]
    (axes,) = waiting.data_wait(read(write(tmp_path, [*rows, failed]))).axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(shown) == 20 and all(label.startswith("total, batch ") for label in shown)
    assert "its loader in every row: threads 8, prefetch 2, hw_decoder_load 0.65" in texts(axes.figure)
    assert "40 rows of headroom and compute only" in texts(axes.figure) and "1 that could not run" in texts(axes.figure)


def test_loader_settings_that_differ_stand_beside_each_row(tmp_path):
    rows = [train("total", 9.0), train("total, threads 4", 8.0) | {"loader": {"threads": 4, "prefetch": 2}}]
    (axes,) = waiting.data_wait(read(write(tmp_path, rows))).axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert shown == ["total, threads 4 (threads 4, prefetch 2)", "total (threads 8, prefetch 2, hw_decoder_load 0.65)"]


def test_loader_settings_stand_beside_the_settings_as_they_are_by_default(gpu):
    figure = waiting.data_wait(gpu)
    training, sweep, feeding = ([label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes)
    assert len(training) == 4 and sweep == ["ours, prefetch 3", "ours"] and feeding == ["process", "thread"]


def test_a_kernel_is_held_against_the_copy_of_equal_size(gpu):
    (axes,) = kernels.roofline(gpu).axes
    roof = next(line for line in axes.lines if line.get_label() == "plain copy of as many bytes")
    assert list(zip(*roof.get_data())) == [(0.786432, 700.0), (630.0, 3900.0)]
    assert {"ema", "centering"} <= {text.get_text() for text in axes.texts}
    assert "no FLOPs" in axes.get_xlabel()


def test_where_no_copy_of_equal_size_was_measured_the_picture_says_so(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "copy_gb_per_s"} for row in gpu_rows()]
    (axes,) = kernels.roofline(read(write(tmp_path, rows))).axes
    assert "no copy of equal size" in texts(axes.figure)


def test_each_backend_has_a_marker_and_a_colour_of_its_own(repository):
    times = [r for r in repository if r.kind == "kernels" and r.fields.get("least_bytes")]
    ways = {r.name.rpartition("/")[2] for r in times} | {"fused"}
    assert ways == set(kernels.WAYS)
    for looks in zip(*kernels.WAYS.values()):
        assert len(set(looks)) == len(ways)


def test_history_draws_what_has_a_past_and_says_what_has_none(tmp_path):
    rows = [train("total", 100.0, FIRST), train("total", 150.0) | {"commit": "b" * 40}, train("compute only", 9.0)]
    (axes,) = throughput.history(read(write(tmp_path, rows))).axes
    assert list(axes.lines[0].get_ydata()) == [1.0, 1.5]
    assert axes.get_xlabel() and "1 row with one record" in texts(axes.figure)
    assert throughput.history(read(write(tmp_path / "one", rows[:1]))) is None


def test_decode_only_does_not_squeeze_the_loaders(gpu):
    crops, decode = throughput.loaders(gpu).axes
    assert crops.get_xlim()[1] < 12_000 and decode.get_xlim()[1] > 90_000
    assert [label.get_text() for label in decode.get_yticklabels()] == ["ours, decode only"]


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
@pytest.mark.parametrize("which", ["gpu", "repository"])
def test_legends_lie_beside_what_is_drawn(chart, which, request):
    with matplotlib.rc_context(STYLE):
        figure = chart.draw(request.getfixturevalue(which))
        if figure is None:
            # As long as no record is of a GPU; every other picture has records.
            assert (chart.name, which) == ("gpu", "repository")
            return
        FigureCanvasAgg(figure).draw()
        legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
        for legend in legends:
            box = legend.get_window_extent()
            assert not any(box.overlaps(axes.get_window_extent()) for axes in figure.axes)


def test_rows_of_one_run_only():
    older, newer = train("total", 1.0, FIRST), train("total", 2.0, SECOND)
    (axes,) = step.breakdown([Record(row | GPU, "one", n) for n, row in enumerate((older, newer))]).axes
    assert len(axes.get_yticklabels()) == 1
