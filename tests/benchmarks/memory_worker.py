"""The calls in which a measurement of training times a row, reads its peak memory and makes a product that resets it.

A process of its own, as each measurement is: the real measurement of a toy; see test_bench_train.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmarks.training.__main__ as measurement
from benchmarks.training import Job, Setting, work
from skill_fast.data.loader import Loader


def main(data: str, folder: Path) -> None:
    order: list[str] = []

    def told(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*arguments: Any, **named: Any) -> Any:
            order.append(name)
            return call(*arguments, **named)

        return recorded

    for module, name in ((measurement, "timed"), (measurement, "memory_fields"), (work, "clocked")):
        setattr(module, name, told(name, getattr(module, name)))
    job = Job(Setting(model="toy", batch=4, precision="fp32"), data, 0.0, {"threads": 1})
    close = Loader.close
    Loader.close = lambda loader: order.append("closed") or close(loader)  # type: ignore[method-assign,func-returns-value]
    measurement.measure(job, folder / "run", lambda found: order.append(f"told {len(found['rows'])} rows"))
    (folder / "order.json").write_text(json.dumps(order))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
    sys.stdout.flush()
    os._exit(0)
