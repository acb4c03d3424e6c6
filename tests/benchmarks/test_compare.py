"""The regression check: a loss beyond threshold and noise is found, in both directions of a unit; noise is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.archive import Record, subject
from benchmarks.compare import CANNOT_TELL, FASTER, LOST, NOT_JUDGED, SAME, SLOWER, judged, main, noise_of
from tests.benchmarks.rows import train, write

HOW = {"threshold": 0.05, "noise": 0.03}


def row(value: float | None, unit: str = "products/s", **about: Any) -> Record:
    fields: dict[str, Any] = {"what": "a/b", "value": value, "unit": unit, **about}
    return Record(fields | ({} if value is not None else {"can_not": "no memory"}), "", 1)


@pytest.mark.parametrize(
    ("unit", "was", "now", "wanted"),
    [
        ("products/s", 100.0, 90.0, SLOWER),
        ("products/s", 100.0, 94.5, CANNOT_TELL),  # beyond 5 %, within the 3 % + 3 % of noise
        ("products/s", 100.0, 95.5, SAME),
        ("products/s", 100.0, 105.5, SAME),
        ("nats", 2.0, 1.0, NOT_JUDGED),
        ("", 2.0, 1.0, NOT_JUDGED),
        ("products/s", 100.0, 110.0, FASTER),
        ("ms", 100.0, 110.0, SLOWER),
        ("ms", 100.0, 90.0, FASTER),
        ("times", 2.0, 1.8, SLOWER),
        ("times", 2.0, 2.0, SAME),
    ],
)
def test_direction_follows_the_unit(unit, was, now, wanted):
    assert judged([row(was, unit)], [row(now, unit)], **HOW).verdict == wanted


def test_a_noisy_row_needs_a_larger_loss():
    noisy = {"quantiles": {"min": 80.0, "max": 120.0}, "repeats": 3}
    calm = {"quantiles": {"min": 99.0, "max": 101.0}, "repeats": 3}
    assert judged([row(100.0, **noisy)], [row(85.0, **calm)], **HOW).verdict == CANNOT_TELL
    assert judged([row(100.0, **noisy)], [row(100.0, **calm)], **HOW).verdict == CANNOT_TELL
    assert judged([row(100.0, **calm)], [row(130.0, **noisy)], **HOW).verdict == FASTER
    assert judged([row(100.0, **calm)], [row(85.0, **calm)], **HOW).verdict == SLOWER
    assert judged([row(100.0, **noisy)], [row(70.0, **calm)], **HOW).verdict == SLOWER


def test_noise_is_half_the_range_of_the_repeats():
    assert noise_of([row(90.0), row(100.0), row(120.0)], 0.03) == pytest.approx(0.15)
    assert noise_of([row(100.0, quantiles={"p10": 95.0, "p90": 115.0}, repeats=50)], 0.03) == pytest.approx(0.1)
    assert noise_of([row(100.0, quantiles={"min": 100.0, "max": 100.0}, repeats=1)], 0.5) == 0.5


def test_two_repeats_that_are_equal_by_chance_are_not_without_noise():
    assert noise_of([row(100.0), row(100.0)], 0.03) == 0.03
    assert noise_of([row(100.0, quantiles={"min": 100.0, "max": 100.0}, repeats=2)], 0.03) == 0.03
    twice = [row(100.0), row(100.0)]
    assert judged(twice, [row(94.5), row(94.5)], **HOW).verdict == CANNOT_TELL
    assert judged(twice, [row(93.0), row(93.0)], **HOW).verdict == SLOWER


def test_a_row_that_can_not_run_any_more_is_a_regression():
    assert judged([row(1.0)], [row(None)], **HOW).verdict == LOST
    assert judged([row(None)], [row(None)], **HOW).verdict == SAME


@given(st.floats(0.01, 1e5), st.floats(0.01, 1e5), st.sampled_from(["ms", "products/s"]))
def test_what_is_slower_one_way_is_never_slower_the_other(was, now, unit):
    there = judged([row(was, unit)], [row(now, unit)], **HOW)
    back = judged([row(now, unit)], [row(was, unit)], **HOW)
    assert not there.verdict == back.verdict == SLOWER
    assert judged([row(was, unit)], [row(was, unit)], **HOW).verdict == SAME


def test_half_a_last_line_is_told_and_the_rest_is_judged(tmp_path, capsys):
    folder = write(tmp_path, [train("total", 100.0), train("headroom", 50.0)], "a.jsonl")
    whole = (folder / "a.jsonl").read_bytes()
    (folder / "cut.jsonl").write_bytes(whole[:-9])
    assert main([str(folder / "a.jsonl"), str(folder / "cut.jsonl")]) == 0
    told = capsys.readouterr()
    assert "cut.jsonl:2: not JSON" in told.err and "missing     train/headroom" in told.out


def test_exit_codes_and_what_is_said(tmp_path, capsys):
    def file(name: str, *rows: dict[str, Any]) -> str:
        return str(write(tmp_path, list(rows), f"{name}.jsonl") / f"{name}.jsonl")

    a = file("a", train("total", 100.0), train("headroom", 50.0))
    assert main([a, file("same", train("total", 99.0), train("headroom", 51.0))]) == 0
    assert main([a, file("slow", train("total", 80.0))]) == 1
    told = capsys.readouterr()
    assert "1 of 2 rows are slower" in told.err and "missing     train/headroom" in told.out
    assert main([a, file("slow2", train("total", 94.0)), "--noise", "0"]) == 1
    assert main([a, file("elsewhere", train("total", 100.0) | {"cpu": "Another"})]) == 3
    assert main([a, file("elsewhere", train("total", 100.0) | {"cpu": "Another"}), "--any-machine"]) == 0
    assert main([a, str(tmp_path / "absent.jsonl")]) == 3
    assert main([a, a, "--threshold", "5"]) == 2
    assert main([a, file("blind", train("total", 96.0), train("headroom", 47.4))]) == 0
    told = capsys.readouterr().out
    assert "cannot tell train/headroom" in told and "of 1 of 2 rows a loss of 5% cannot be told from noise" in told
    assert "no row of the 1 that could be judged lost more" in told
    assert main([a, file("blind", train("total", 96.0), train("headroom", 47.4)), "--strict"]) == 1
    assert "--strict: 1 of 2 rows and 0 damaged lines say nothing, as train/headroom" in capsys.readouterr().err
    assert main([a, a, "--strict"]) == 0


def test_a_unit_that_is_not_known_is_listed_and_takes_no_other_rows_verdict(tmp_path, capsys):
    entropy = {"what": "demo/color", "value": 1.0, "unit": "nats"}
    for name, value, nats in (("a", 100.0, 1.0), ("same", 99.0, 0.5), ("slow", 80.0, 0.5)):
        write(tmp_path, [train("total", value), entropy | {"value": nats}], f"{name}.jsonl")
    a, same, slow = (str(tmp_path / f"{name}.jsonl") for name in ("a", "same", "slow"))
    assert main([a, same]) == 0
    assert "not judged  demo/color" in (told := capsys.readouterr().out) and "is more of 'nats' better?" in told
    assert main([a, slow]) == 1
    assert main([a, same, "--strict"]) == 1


def test_a_slowdown_is_worse_when_it_grows_also_of_records_that_called_it_times():
    """How many times as long training's own work takes beside the feeding: 1.1 to 1.5 is a loss of 27 %."""
    for unit in ("times as long", "times"):
        was, now = (row(v, unit, what="feeding/thread/training work") for v in (1.1, 1.5))
        assert (was.unit, judged([was], [now], **HOW).verdict) == ("times as long", SLOWER)
        assert judged([now], [was], **HOW).verdict == FASTER
    assert row(1.1, "times", what="faults/1 % broken to clean").unit == "times"
    old, new = (row(1.1, unit, what="feeding/thread/training work") for unit in ("times", "times as long"))
    assert subject(old) == subject(new)


def test_colour_accuracy_is_neither_better_high_nor_low_and_other_shares_are():
    for what, wanted in (("demo/knn/color/accuracy", NOT_JUDGED), ("demo/color/design/pattern/purity", SLOWER)):
        assert judged([row(0.5, "share", what=what)], [row(0.3, "share", what=what)], **HOW).verdict == wanted
        assert judged([row(0.3, "share", what=what)], [row(0.5, "share", what=what)], **HOW).verdict != SLOWER


def test_rows_of_the_same_data_elsewhere_are_one_row_and_of_other_data_are_not():
    lies = ["/tmp/luma", "luma", "x/luma/manifest.csv", "other/", "demo-248-64-0-catalog-1", "demo-9-64-0-catalog-1"]
    assert len({subject(row(1.0, data=data)) for data in lies}) == 4


def test_any_machine_compares_rows_of_other_core_counts(tmp_path, capsys):
    loader = train("total", 100.0) | {"what": "loader/ours", "workers": 2, "cores": 2}
    other = loader | {"workers": 16, "cores": 16, "value": 300.0}
    for name, fields in (("two", loader), ("sixteen", other)):
        write(tmp_path, [fields], f"{name}.jsonl")
    files = [str(tmp_path / "two.jsonl"), str(tmp_path / "sixteen.jsonl")]
    assert main(files) == 3
    assert main([*files, "--any-machine"]) == 0
    assert "faster      loader/ours" in capsys.readouterr().out


def test_three_kinds_of_records_from_before_they_named_their_dtype_meet_those_of_today():
    for what in ("arrangements/x", "evaluate/x", "faults/x"):
        assert subject(row(1.0, what=what)) == subject(row(1.0, what=what, dtype="float32"))
    assert subject(row(1.0)) != subject(row(1.0, dtype="float32"))


def test_repeats_may_be_the_seconds_of_each():
    twice = row(2.0, "s", repeats=[1.0, 3.0], quantiles={"min": 1.0, "max": 3.0})
    assert noise_of([twice], 0.03) == 0.5 and noise_of([row(2.0, repeats=[2.0])], 0.03) == 0.03
