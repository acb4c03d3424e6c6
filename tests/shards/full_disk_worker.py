"""Builds onto small disks until they are full, in a mount namespace of its own; test_shard_storage.py starts it.

Arguments: a catalogue, a folder to mount disks on, then their sizes in KiB. A JSON object a disk on stdout.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from shards.build import Progress, build
from shards.errors import Failure
from tests.shards.data_sets import contents

OPTIONS = {"shard_mib": 0.03, "workers": 0, "preprocess": "none"}


def main(source: str, disk: Path, sizes_kib: list[int]) -> None:
    whole = disk.with_name("whole")
    build(source, whole, **OPTIONS)
    unbroken = contents(whole)
    for kib in sizes_kib:
        mount("-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(disk))
        print(json.dumps({"kib": kib, **on_disk(source, disk, unbroken)}), flush=True)
        subprocess.run(["umount", str(disk)], check=True)


def on_disk(source: str, disk: Path, unbroken: dict[str, bytes]) -> dict[str, object]:
    """Build until there is no room, look at what lies there, make room and build to the end."""
    out, report = disk / "out", {"exit_code": 0, "message": "", "free": -1}
    try:
        build(source, out, **OPTIONS)
    except Failure as failure:
        space = os.statvfs(disk)
        report |= {"exit_code": failure.exit_code, "message": str(failure), "free": space.f_bavail * space.f_frsize}
    left = contents(out) if out.exists() else {}
    report["torn"] = sorted(name for name, content in left.items() if unbroken.get(name) != content)
    report["finished"] = len(list(out.glob(".build/part-*.json")))
    report["described"] = "dataset.json" in left
    mount("-o", "remount,size=64m", str(disk))
    seen: list[Progress] = []
    if report["exit_code"]:
        build(source, out, progress=lambda done: seen.append(replace(done)), **OPTIONS)
    report["resumed"] = seen[-1].resumed if seen else 0
    report["equal"] = contents(out) == unbroken and not (out / ".build").exists()
    return report


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), [int(word) for word in sys.argv[3:]])
