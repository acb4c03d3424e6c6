"""A data set whose derived parts were lost or damaged: tables and indices are made again from the tars.

an append that was interrupted arrives, or goes
every tar is read and must be the one of dataset.json: else nothing is changed, and the error names the tars
products.parquet, images.parquet and the indices that are not what the tars say are replaced
what no tar knows is not invented: of a lost rejected.parquet the counts remain, a lost duplicates.parquet is no
    longer listed
dataset.json is written anew where it describes a table that was replaced
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from shards.arrival import settle
from shards.errors import BadData, BadUsage
from shards.index import DATASET, describe, is_sealed, read_dataset, seal_fault, sealed, sha256_of
from shards.jpeg import read_header
from shards.merge_write import image_rows, product_cells
from shards.new_file import PARTIAL_SUFFIX, room_for, sync, write_new
from shards.normalize import Jpeg
from shards.own_files import BUILT, GONE, JOURNAL, OWN_FOLDERS, OWN_NAMES, REPAIR_FOLDER, refuse_foreign
from shards.places import Place, entries
from shards.table_files import TableWriter
from shards.tables import Cursor, batches
from shards.tar_reading import StoredProduct, TarStream, stored_products
from shards.writer import Member, dali_index, index_name

SCRATCH = ".repair"
"""Within the data set: what is to take the place of something; gone at the end."""
FROM_TARS = ("products.parquet", "images.parquet")
LOST = "not known any more: rejected.parquet was lost; dataset.json has the number"


def repair(folder: Place, *, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Make a data set whole again as far as its tars allow, and return what was done, a line each.

    After it a full verification has no findings. ``progress`` is told (bytes, bytes in all) of the tars. May be called
    again after any interruption. Raises BadData where dataset.json or a tar is damaged, BadUsage for a remote place.
    """
    if not isinstance(folder, Path):
        raise BadUsage(f"'{folder}' is in object storage", allowed="a local folder", change="repair a copy")
    refuse_foreign(folder, OWN_FOLDERS | REPAIR_FOLDER)
    _refuse_folders(folder)
    lines = settle(folder)
    dataset = read_dataset(folder)
    if fault := seal_fault((folder / DATASET).read_bytes()):
        raise BadData(
            f"'{folder / DATASET}' was changed after it was written: {fault}",
            allowed="the file as it was written: nothing else knows what it says",
            change="copy it again from where the data set came from, or build the data set again",
        )
    scratch = folder / SCRATCH
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        _from_tars(folder, scratch, dataset, progress)
        changed = [*_replace(folder, scratch, dataset), *_known_only_here(folder, dataset)]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if changed:
        sync(folder)
        write_new(folder / DATASET, sealed(dataset))
        sync(folder)
    return [*lines, *changed, *_leftovers(folder, dataset)]


def _refuse_folders(folder: Path) -> None:
    """Raise BadData where a folder has the name of a file that may be made again: what is in it is not ours to remove.

    Links and the like are replaced by the file.
    """
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        made = OWN_NAMES.fullmatch(path.name) and path.name != DATASET and path.suffix != ".tar"
        if made and path.is_dir() and not path.is_symlink():
            raise BadData(
                f"'{path}' is a folder, where a file of the data set belongs",
                allowed="a file, or nothing: it is made again",
                change="move that folder away, or remove it, and repair again; nothing was changed",
            )


def _from_tars(
    folder: Path, scratch: Path, dataset: dict[str, Any], progress: Callable[[int, int], None] | None
) -> None:
    """Both tables and all indices, in ``scratch``; raises BadData naming the tars that are not the recorded ones."""
    products, images = TableWriter(scratch, "products.parquet"), TableWriter(scratch, "images.parquet")
    faults: list[str] = []
    total, done = sum(line["bytes"] for line in dataset["shards"]), 0
    try:
        for number, line in enumerate(dataset["shards"]):
            samples: list[list[Member]] = []
            try:
                for product in _checked(folder, line):
                    samples.append(product.members)
                    _add_rows(product, number, products, images)
            except (BadData, ValueError) as error:
                faults.append(error.came if isinstance(error, BadData) else f"'{folder / line['name']}': {error}")
            index, content = scratch / index_name(line["name"]), dali_index(samples)
            with room_for(index, len(content)):
                index.write_bytes(content)
            done += line["bytes"]
            if progress is not None:
                progress(done, total)
        if faults:
            more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
            raise BadData(
                f"{len(faults)} of {len(dataset['shards'])} tars can not be trusted: {'; '.join(faults[:5])}{more}",
                allowed="tars as dataset.json describes them: everything else is made from them",
                change="copy these again from where the data set came from; nothing was changed",
            )
        products.close()
        images.close()
    finally:
        products.abandon()
        images.abandon()


def _checked(folder: Path, line: dict[str, Any]) -> Iterator[StoredProduct]:
    """The products of a tar; raises BadData at its end where it is not the one of ``line``."""
    path = folder / line["name"]
    if not path.is_file() or path.stat().st_size != line["bytes"]:
        found = f"{path.stat().st_size} bytes" if path.is_file() else "nothing"
        raise BadData(f"'{path}': expected {line['bytes']} bytes, found {found}")
    products = images = 0
    with path.open("rb") as file:
        tar = TarStream(file, line["bytes"])
        for product in stored_products(tar, str(path)):
            products, images = products + 1, images + len(product.images)
            yield product
        if (found := tar.finish()) != line["sha256"]:
            raise BadData(f"'{path}': expected sha256 {line['sha256']}, found {found}")
    if (products, images) != (line["products"], line["images"]):
        raise BadData(f"'{path}' holds {products} products and {images} images, by {DATASET} other numbers")


def _add_rows(product: StoredProduct, shard: int, products: TableWriter, images: TableWriter) -> None:
    headers = [read_header(data) for data in product.images]
    jpegs = [Jpeg(data, head.height, head.width) for data, head in zip(product.images, headers, strict=True)]
    products.add(*product_cells(product.key, product.record()), images.rows, len(jpegs))
    for row in image_rows(product.key, shard, product.members, jpegs):
        images.add(*row)


def _replace(folder: Path, scratch: Path, dataset: dict[str, Any]) -> Iterator[str]:
    """Put what was made in the place of what differs from it."""
    for name in FROM_TARS:
        if _is_listed(folder, dataset, name) and _same_rows(folder, scratch, name):
            continue
        os.replace(scratch / name, folder / name)
        dataset["tables"][name] = describe(folder / name)
        yield f"{name}: made again from the tars"
    for line in dataset["shards"]:
        name = index_name(line["name"])
        made = (scratch / name).read_bytes()
        if not (folder / name).is_file() or (folder / name).read_bytes() != made:
            write_new(folder / name, made)
            yield f"{name}: made again from its tar"


def _is_listed(folder: Path, dataset: dict[str, Any], name: str) -> bool:
    """Whether a table is the one that dataset.json describes."""
    path, line = folder / name, dataset["tables"][name]
    return path.is_file() and path.stat().st_size == line["bytes"] and sha256_of(path) == line["sha256"]


def _same_rows(folder: Path, scratch: Path, name: str) -> bool:
    """Other versions of pyarrow write the same rows as other bytes."""
    try:
        other, own = Cursor(folder, name), batches(scratch, name)
        for batch in own:
            rows = [row for part in other.take(batch.num_rows) for row in part.to_pylist()]
            if rows != batch.to_pylist():
                return False
        return not any(part.num_rows for part in other.take(1))
    except BadData:
        return False


def _known_only_here(folder: Path, dataset: dict[str, Any]) -> Iterator[str]:
    """What a build found out and no tar says."""
    if not _is_listed(folder, dataset, "rejected.parquet"):
        counts = dataset["counts"]
        table = TableWriter(folder, "rejected.parquet")
        for reason, count in [*counts["images_rejected"].items(), *counts["products_rejected"].items()]:
            for _ in range(count):
                table.add("", "", reason, LOST)
        table.close()
        dataset["tables"]["rejected.parquet"] = table.line
        yield f"rejected.parquet: lost; {table.rows} rows with the reasons of {DATASET}, without names"
    if "duplicates.parquet" in dataset["tables"] and not _is_listed(folder, dataset, "duplicates.parquet"):
        del dataset["tables"]["duplicates.parquet"]
        yield "duplicates.parquet: lost; what looks alike is not recorded any more"


def _leftovers(folder: Path, dataset: dict[str, Any]) -> Iterator[str]:
    """Remove what a build or a repair may have left and nothing lists; a tar is never removed."""
    listed = {DATASET, BUILT, *dataset["tables"], *(line["name"] for line in dataset["shards"])}
    listed |= {index_name(line["name"]) for line in dataset["shards"]}
    for name in sorted(entries(folder)):
        if name in (JOURNAL, GONE):
            # By one rename, so that there is a whole journal or none.
            shutil.rmtree(folder / GONE, ignore_errors=name == JOURNAL)
            if name == JOURNAL:
                os.rename(folder / JOURNAL, folder / GONE)
                shutil.rmtree(folder / GONE)
            yield f"{name}: removed; the build had finished"
        elif name == BUILT and not ((folder / BUILT).is_file() and is_sealed((folder / BUILT).read_bytes())):
            (folder / BUILT).unlink()
            yield f"{name}: removed; it was damaged, and only the same build command asks for it"
        elif OWN_NAMES.fullmatch(name) and name not in listed:
            if name.endswith(".tar"):
                yield f"{name}: left alone, though {DATASET} does not list it: move it away"
            else:
                (folder / name).unlink()
                what = "what was never finished" if name.endswith(PARTIAL_SUFFIX) else f"{DATASET} does not list it"
                yield f"{name}: removed; {what}"
