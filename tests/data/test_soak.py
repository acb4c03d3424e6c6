"""Many batches: memory, threads and descriptors stay where they were."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np

BATCHES, WARM_UP, EVERY = (6000, 1000, 100) if os.environ.get("SKILL_FAST_LONG") == "1" else (1500, 500, 50)
MOST_MIB_A_THOUSAND = 1.0
SOAK = """
import gc, json, sys, threading
import psutil
from skill_fast.data.index import open_index
from skill_fast.data.loader import Loader, LoaderConfig
from skill_fast.data.views import ViewGroup
folder, batches, warm_up, every = sys.argv[1], *map(int, sys.argv[2:])
process, found = psutil.Process(), []
views = (ViewGroup("global", (0, 1), 16, (0.4, 1.0)),)
with Loader(open_index(folder), views, global_batch=4, config=LoaderConfig(threads=1, window_shards=2)) as loader:
    for step in range(batches):
        next(loader)
        if step >= warm_up and step % every == 0:
            gc.collect()
            counts = threading.active_count(), process.num_threads(), process.num_fds()
            found.append((step, process.memory_info().rss / 2**20, counts))
print(json.dumps(found))
"""


def test_nothing_grows(folder):
    """Under 1 MiB per 1,000 batches by a line through the resident memory; 5,000 batches long, 1,000 every change."""
    command = [sys.executable, "-c", SOAK, str(folder), str(BATCHES), str(WARM_UP), str(EVERY)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    steps, mib, counts = zip(*found)
    slope = np.polyfit(np.array(steps) / 1000, mib, 1)[0]
    print(f"{BATCHES - WARM_UP} batches: {slope:+.3f} MiB per 1,000; threads, all threads, descriptors {counts[0]}")
    assert slope < MOST_MIB_A_THOUSAND
    assert len({tuple(each) for each in counts}) == 1
