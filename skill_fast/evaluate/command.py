"""The command ``skill-eval``: a run's or saved embeddings' scores, tables of finished evaluations, comparisons."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import yaml

from skill_fast.data.cache_config import add_cache_options, cache_config
from skill_fast.data.index import open_index
from skill_fast.errors import BadData, BadUsage, exit_with
from skill_fast.evaluate.compare import main_compare
from skill_fast.evaluate.embed import BATCH_SIZE
from skill_fast.evaluate.products import SPLITS
from skill_fast.evaluate.progress import progress_bar
from skill_fast.evaluate.saved import SavedEmbeddings, open_saved
from skill_fast.evaluate.scoreboard import print_table
from skill_fast.evaluate.suite import DEFAULT_TASKS, TASKS, evaluate, load_rows, tasks_of, write_json
from skill_fast.evaluate.tables import main_tables
from skill_fast.models.encoder import Encoder
from skill_fast.models.pooling import POOLINGS

RUN_HELP = "run folder with model.json and teacher.safetensors, or FILE.parquet as skill-embed writes it"
COMMANDS: dict[str, Callable[[Sequence[str]], None]] = {"tables": main_tables, "compare": main_compare}


def recorded_data(run: Path) -> str:
    """The data folder that the run was trained on, from its config.yaml; raises BadUsage where none is recorded."""
    path = run / "config.yaml"
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadData(f"'{path}' is not readable YAML: {error}", change="name the data with --data DIR") from error
    data = config.get("data") if isinstance(config, dict) else None
    if not isinstance(data, str) or not data:
        raise BadUsage(f"'{path}' does not say which data the run was trained on", change="name it: --data DIR")
    return data


def main(arguments: Sequence[str] | None = None) -> int:
    """``skill-eval RUN --data DIR``, ``tables RUN...`` or ``compare A B``; returns the exit code.

    A run folder named as a command is given as ./tables or ./compare.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = COMMANDS.get(words[0]) if words else None
    return exit_with(lambda: command(words[1:]) if command else _run(words))


def _run(arguments: Sequence[str] | None) -> None:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="skill-eval", description="Score a run beside its controls."
    )
    parser.add_argument("run", metavar="RUN", type=Path, help=RUN_HELP)
    help_data = "folder of shards, or s3:// or gs:// address (default: the one the run was trained on)"
    parser.add_argument("--data", metavar="DIR", help=help_data)
    parser.add_argument("--tasks", default=",".join(DEFAULT_TASKS), help="comma-separated: " + ", ".join(TASKS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores there too")
    parser.add_argument("--split", help=", ".join(SPLITS) + " (default: test where there is one, else all)")
    parser.add_argument("--pooling", help=", ".join(POOLINGS) + " (default: class; a Parquet file has its own)")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: the GPU where there is one)")
    add_cache_options(parser)
    options = parser.parse_args(arguments)
    if options.batch_size < 1:
        raise BadUsage(f"--batch-size {options.batch_size}", allowed="1 or more", change="--batch-size")
    if options.json and not options.json.parent.is_dir():
        raise BadUsage(f"the folder '{options.json.parent}' does not exist", change=f"mkdir -p {options.json.parent}")
    if options.json and options.json.is_dir():
        raise BadUsage(f"--json {options.json} is a folder", allowed="a file's name", change="--json FILE.json")
    tasks = tasks_of(options.tasks)
    if options.run.suffix == ".parquet":
        if not options.data:
            raise BadUsage("saved embeddings do not say where their photographs are", change="name them: --data DIR")
        scored: Mapping[str, Encoder] | SavedEmbeddings = open_saved(options.run)
        if options.pooling:
            raise BadUsage(
                f"--pooling {options.pooling} of embeddings that are pooled already",
                allowed="--pooling with a run",
                change="leave --pooling out, or skill-embed RUN --pooling anew",
            )
    else:
        scored = load_rows(options.run, options.pooling or "class")
    index = open_index(options.data or recorded_data(options.run), cache_config(options))
    with progress_bar() as progress:
        line = progress.add_task("embedding", total=None)
        result = evaluate(
            scored,
            index,
            tasks,
            split=options.split,
            batch_size=options.batch_size,
            device=options.device,
            done=lambda photographs, total: progress.update(line, completed=photographs, total=total),
        )
    result["run"] = str(options.run)
    if options.json:
        write_json(options.json, result)
    print_table(result)


if __name__ == "__main__":
    sys.exit(main())
