"""Where photographs become JPEGs: what a build asks of an engine, and the table of engines.

An engine takes tasks in chunks and answers each chunk with as many outcomes in the same order. What a photograph
becomes depends on the photograph and the normalisation alone, never on the engine, its workers or the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple, Protocol

from shards.errors import BadUsage
from shards.normalize import Jpeg, Normalization
from shards.sources.product import Photograph

ENGINES = ("local", "ray")
Outcome = Jpeg | tuple[str, str]
"""A JPEG, or the reason and detail of its rejection."""


class Task(NamedTuple):
    """One photograph that is to be normalised."""

    photograph: Photograph
    crop_to_item: bool = False


class Engine(Protocol):
    """Normalises photographs somewhere; ``close`` ends what it started, also after an error."""

    chunk: int
    """Photographs that one submission had best hold."""
    ahead: int
    """Photographs that may be under way, or done and not yet taken: bounds the memory of a build."""

    def submit(self, tasks: Sequence[Task]) -> Future[list[Outcome]]: ...

    def close(self) -> None: ...


def open_engine(name: str, how: Normalization, *, workers: int | None = None, ray_address: str | None = None) -> Engine:
    """The engine called ``name``.

    workers: processes; None is one a CPU. "local" with 0 works in this process, without protection against decoders
    that crash or hang. Raises BadUsage for an unknown name, or where the extra ``ray`` is not installed.
    """
    if ray_address is not None and name != "ray":
        raise BadUsage(f"--ray-address {ray_address} with --engine {name}", allowed="with --engine ray alone")
    if name == "local":
        from shards.engines.local import LocalEngine

        return LocalEngine(how, workers=workers)
    if name == "ray":
        from shards.engines.ray import RayEngine

        return RayEngine(how, workers=workers, address=ray_address)
    raise BadUsage(f"unknown engine {name!r}", allowed=", ".join(ENGINES))
