"""The printed report: no heading is clipped at any width, and the entropy never stands alone."""

import io

import pytest
from rich.console import Console

from skill_fast.evaluate.scoreboard import print_table

ENTROPY = {
    "color/clusters/mean": 1.234,
    "color/clusters/mean_low": 1.101,
    "color/clusters/mean_high": 1.377,
    "color/clusters/size_weighted": 1.456,
    "color/clusters/normalised": 0.567,
    "color/ceiling/mean": 1.689,
    "color/ceiling/size_weighted": 1.789,
    "color/ceiling/normalised": 0.789,
    "color/floor/mean": 0.312,
    "color/nearest": 1.345,
    "color/nearest_floor": 0.423,
    "color/design/pattern/purity": 0.617,
    "color/design/pattern/purity_by_chance": 0.211,
    "color/design/pattern/nmi": 0.512,
}
TURNS = {f"orientation/rotated_{turn}/{score}": 0.5 for score in ("similarity", "recall@1") for turn in (90, 180, 270)}
PROBES = {
    f"probe/style/fit/{kind}/{score}": 0.111 * place
    for place, (kind, score) in enumerate(
        ((k, s) for k in ("linear", "nonlinear") for s in ("accuracy", "recall@90", "recall@95")), start=1
    )
} | {"probe/style/fit/majority": 0.4}


def printed(scores, width, terminal=True):
    rows = {"trained": scores, "colour histogram": scores}
    result = {"rows": rows, "absent": {}, "protocol": "p", "products": 1, "photographs": 1, "split": "test"}
    console = Console(record=True, width=width, force_terminal=terminal, file=io.StringIO())
    print_table(result | {"knn": {"k": 20}}, console)
    return console.export_text()


@pytest.mark.parametrize("width", range(40, 131, 3))
def test_nothing_is_clipped_at_any_width(width):
    text = printed(ENTROPY | TURNS | PROBES, width)
    assert "…" not in text
    assert text.count("270") == 2 and all(len(line) <= width for line in text.splitlines() if "." not in line[-1:])


def test_the_entropy_stands_beside_its_interval_its_variants_and_its_controls():
    text = printed(ENTROPY, 200)
    trained = next(line for line in text.splitlines() if line.strip().startswith("trained")).split()
    for value in ("1.234", "0.31-1.69", "1.10-1.38", "1.456", "0.567", "1.345", "0.423", "0.617", "0.512"):
        assert value in trained
    chance = next(line for line in text.splitlines() if "(by chance)" in line).split()
    for value in ("1.689", "1.789", "0.789", "0.211"):
        assert value in chance
    assert "NAME_low and NAME_high" in text


def test_an_attribute_with_a_slash_or_a_bracket_in_its_name_keeps_its_scores():
    text = printed(PROBES, 200)
    assert text.count("style/fit") == 6 and "0.666" in text
    trained = next(line for line in text.splitlines() if line.strip().startswith("trained")).split()
    assert trained[1:] == ["0.111", "0.222", "0.333", "0.444", "0.555", "0.666"]
    bracket = {name.replace("style/fit", "[red]fit of it"): value for name, value in PROBES.items()}
    assert printed(bracket, 200).count("[red]fit of it") == 6
