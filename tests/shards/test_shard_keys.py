import json
import os
import re
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shards.build import build
from shards.keys import key_of, product_id_of
from tests.shards.sources.trees import jpeg, put

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


HARD = [
    *("../../etc/passwd", "/absolute", "C:\\dir", "~root", ".", "..", "...", "-rf", " ", "a b", "a.00.jpg", "a.json"),
    *(
        "a\0b",
        "\0",
        "line\nline",
        "tab\t",
        "\r",
        "Case",
        "case",
        "CASE",
        "é",
        "e\u0301",
        "ß",
        "ẞ",
        "İ",
        "\u202egpj.exe",
        "😀",
    ),
    *("%41", "%", "%%", "x" * 64, "x" * 65, "x" * 10_000, "é" * 10_000, "x" * 9_999 + "y", "{0..9}", "*?[a]", "$(ls)"),
]
"""Ids as a hostile catalogue has them."""
KEPT = [product_id for product_id in HARD if product_id == product_id.strip()]
"""Those that a manifest keeps as they are: blanks around an id are no part of it."""


@given(IDS)
@example("../../etc/passwd")
@example("a\0b\nc d.e")
@example("%41")
@example("A" * 64)
@example("A" * 65)
@example("é" * 11)
def test_a_key_is_safe_and_gives_the_id_back(product_id: str) -> None:
    key = key_of(product_id)
    assert re.fullmatch(r"[A-Za-z0-9_%-]{1,64}", key)
    back = product_id_of(key)
    if back is None:
        # The definition: three characters a byte that is not plain; only a longer name is cut.
        plain = string.ascii_letters + string.digits + "-_"
        assert sum(1 if chr(byte) in plain else 3 for byte in product_id.encode()) > 64
    else:
        assert back == product_id


@given(st.lists(IDS, unique=True, max_size=20), st.text("ab%", min_size=60, max_size=70))
def test_two_ids_never_share_a_key(ids: list[str], head: str) -> None:
    ids = sorted({*ids, *(head + product_id for product_id in ids), *(key_of(product_id) for product_id in ids)})
    assert len({key_of(product_id) for product_id in ids}) == len(ids)


def test_what_can_stand_for_itself_does() -> None:
    assert key_of("MJ01-yellow_2") == "MJ01-yellow_2"
    assert key_of("a b.c/d%") == "a%20b%2Ec%2Fd%25"


@given(st.lists(st.sampled_from(HARD) | IDS, unique=True, max_size=12))
@settings(deadline=None)  # an id may have 10,000 characters
def test_no_key_leaves_its_folder_and_none_is_shared(ids: list[str]) -> None:
    keys = [key_of(product_id) for product_id in ids]
    assert len(set(keys)) == len(ids)
    for key in keys:
        member = f"{key}.00.jpg"
        assert os.path.normpath(f"/shard/{member}") == f"/shard/{member}"
        assert len(member.encode("ascii")) <= 100, "what a ustar header's name holds"


@pytest.mark.parametrize("product_id", ["", "\ud800", "a\udfffb"])
def test_what_has_no_key(product_id: str) -> None:
    with pytest.raises(ValueError):
        key_of(product_id)


@pytest.fixture(scope="module")
def hard_dataset(tmp_path_factory) -> Path:
    """A product with one photograph for each hard id; those that have none to give are rejects."""
    folder = tmp_path_factory.mktemp("hard")
    rows = []
    for number, product_id in enumerate([*KEPT, "", "\ud800"]):
        put(folder, f"{number}.jpg", jpeg(number))
        rows.append(json.dumps({"product_id": product_id, "image_path": f"{number}.jpg"}))
    (folder / "list.jsonl").write_text("\n".join(rows))
    counts = build(folder / "list.jsonl", folder / "out", shard_mib=0.05, workers=1)["counts"]
    assert (counts["products"], counts["images_rejected"]) == (len(KEPT), {"bad_row": 2})
    return folder / "out"


# webdataset 1.0 leaves the tars it opened to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_dali_and_gnu_tar_agree_on_the_products(hard_dataset: Path) -> None:
    import webdataset

    shards = sorted(str(path) for path in hard_dataset.glob("shard-*.tar"))
    assert len(shards) > 1
    by_webdataset = [
        (sample["__key__"], json.loads(sample["json"])["product_id"])
        for path in shards
        for sample in webdataset.WebDataset(path, shardshuffle=False, empty_check=False)
    ]
    by_tar = [
        line.removesuffix(".json")
        for path in shards
        for line in subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True).stdout.splitlines()
        if line.endswith(".json")
    ]
    assert [product_id for _, product_id in by_webdataset] == KEPT == dali_products(shards, len(KEPT))
    assert [key for key, _ in by_webdataset] == by_tar == [key_of(product_id) for product_id in KEPT]


def dali_products(shards: list[str], count: int) -> list[str]:
    from nvidia.dali import fn, pipeline_def, types

    @pipeline_def(batch_size=1, num_threads=1, device_id=None)
    def read():
        indices = [path.replace(".tar", ".idx") for path in shards]
        found = fn.readers.webdataset(
            paths=shards, index_paths=indices, ext=["json", "00.jpg"], missing_component_behavior="error"
        )
        return fn.cast(found[0], dtype=types.UINT8)

    pipeline = read()
    pipeline.build()
    assert sum(reader["epoch_size"] for reader in pipeline.reader_meta().values()) == count
    return [json.loads(pipeline.run()[0].at(0).tobytes())["product_id"] for _ in range(count)]


def test_gnu_tar_extracts_into_the_folder_and_nowhere_else(hard_dataset: Path, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    for path in sorted(hard_dataset.glob("shard-*.tar")):
        subprocess.run(["tar", "-xf", path, "-C", inside], check=True, capture_output=True)
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]
    assert len(list(inside.iterdir())) == 2 * len(KEPT) and all(path.is_file() for path in inside.iterdir())
