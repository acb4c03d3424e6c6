"""A tiny drawn data set and a run folder with a tiny encoder, made once for the tests of evaluation and report."""

import pytest

from shards.build import build
from skill_fast.data.index import open_index
from skill_fast.models.encoder import describe, save_encoder
from skill_fast.models.vit import BackboneConfig, build_backbone

TINY = BackboneConfig(
    name="vit_tiny_patch16_224", image_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, init="fan_in"
)


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """Shards of 20 drawn designs in 3 or 4 colours each (68 products, 265 photographs), two fifths held out."""
    folder = tmp_path_factory.mktemp("drawn") / "demo"
    build("demo", folder, format="demo", designs=20, photo_side=40, seed=3, workers=0)
    return folder


@pytest.fixture(scope="session")
def demo_index(demo):
    return open_index(demo)


@pytest.fixture(scope="session")
def run(tmp_path_factory, demo, demo_index):
    """A run folder whose weights are other than those of its seed, and whose config.yaml names the data."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    about = describe(TINY, method="skill", step=7, seed=5, dataset=demo_index.fingerprint)
    save_encoder(folder, build_backbone(TINY, drop_path=0.0, seed=99).state_dict(), about)
    (folder / "config.yaml").write_text(f"data: {demo}\nseed: 5\n")
    return folder
