"""The drawn data set and the run folder of the evaluation tests."""

from tests.evaluate.conftest import demo, demo_index, run

__all__ = ["demo", "demo_index", "run"]
