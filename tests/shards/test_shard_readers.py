"""The tars as others read them: tarfile, webdataset, DALI with our index, and DALI's own indexer."""

import hashlib
import json
import tarfile
import zlib
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from shards.index import read_dataset


def rows(dataset: Path, table: str) -> list[dict]:
    return pq.read_table(dataset / table).to_pylist()


def shards(dataset: Path) -> list[Path]:
    return [dataset / shard["name"] for shard in read_dataset(dataset)["shards"]]


def test_members_are_in_order_and_where_the_tables_say(dataset: Path) -> None:
    images = iter(rows(dataset, "images.parquet"))
    products = iter(rows(dataset, "products.parquet"))
    seen = 0
    for number, path in enumerate(shards(dataset)):
        raw = path.read_bytes()
        with tarfile.open(path) as archive:
            members = archive.getmembers()
        for member in members:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert member.mode == 0o644 and member.isreg() and raw[member.offset + 257 :][:8] == b"ustar\x0000"
            content = raw[member.offset_data : member.offset_data + member.size]
            if member.name.endswith(".json"):
                product = next(products)
                meta = json.loads(content)
                assert member.name == f"{product['key']}.json" and product["first_image"] == seen
                assert meta.pop("attributes") == json.loads(product["attributes"])
                assert meta == {name: product[name] for name in meta}
                view = 0
                continue
            row = next(images)
            assert member.name == f"{product['key']}.{view:02d}.jpg"
            assert (row["key"], row["view"], row["shard"]) == (product["key"], view, number)
            assert (row["offset"], row["size"], row["crc32"]) == (member.offset_data, member.size, zlib.crc32(content))
            seen, view = seen + 1, view + 1
    assert next(images, None) is None and next(products, None) is None
    assert len(shards(dataset)) > 2, "the case has several shards"


def test_the_sums_are_those_of_the_files(dataset: Path) -> None:
    description = read_dataset(dataset)
    listed = {shard["name"]: shard for shard in description["shards"]} | description["tables"]
    lines = ""
    for name, line in listed.items():
        content = (dataset / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (line["bytes"], line["sha256"])
        if name.endswith(".tar"):
            lines += f"{name} {line['bytes']} {line['sha256']}\n"
    assert description["fingerprint"] == hashlib.sha256(lines.encode()).hexdigest()


# webdataset 1.0 leaves the tars it opened to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_same_products(dataset: Path) -> None:
    import webdataset

    found = []
    for path in shards(dataset):
        for sample in webdataset.WebDataset(str(path), shardshuffle=False, empty_check=False):
            views = sum(name.endswith(".jpg") for name in sample)
            found.append((sample["__key__"], json.loads(sample["json"])["product_id"], views))
    expected = [(row["key"], row["product_id"], row["images"]) for row in rows(dataset, "products.parquet")]
    assert found == expected


def test_dali_reads_the_same_products_by_our_index(dataset: Path) -> None:
    from nvidia.dali import fn, pipeline_def, types

    paths = [str(path) for path in shards(dataset)]

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def read():
        outputs = fn.readers.webdataset(
            paths=paths,
            index_paths=[path.replace(".tar", ".idx") for path in paths],
            ext=["json", "00.jpg"],
            dtypes=[types.UINT8, types.UINT8],
            missing_component_behavior="error",
        )
        return tuple(outputs)

    pipeline = read()
    pipeline.build()
    expected = rows(dataset, "products.parquet")
    images = rows(dataset, "images.parquet")
    for product in expected:
        meta, first = (output.at(0).tobytes() for output in pipeline.run())
        assert json.loads(meta)["product_id"] == product["product_id"]
        assert zlib.crc32(first) == images[product["first_image"]]["crc32"]
    meta, _ = pipeline.run()
    assert json.loads(meta.at(0).tobytes())["product_id"] == expected[0]["product_id"], "the epoch begins again"


def test_our_index_is_the_one_that_dali_writes(dataset: Path, tmp_path: Path) -> None:
    from wds2idx import IndexCreator

    for path in shards(dataset):
        theirs = tmp_path / "theirs.idx"
        with IndexCreator(str(path), str(theirs), verbose=False) as creator:
            creator.create_index()
        assert path.with_suffix(".idx").read_bytes() == theirs.read_bytes()
