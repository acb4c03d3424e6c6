"""OUT/.built.json: which command a finished data set came from, so that the same one finds that nothing is to do.

    source, options, versions    what decides the bytes, as in the journal's build.json
    catalogue                    digest of its entries: labels; names of photographs, of local ones sizes and times
    fingerprint                  of the data set that was built; after an append or a merge it is another one
    sha256                       of the file itself, as in dataset.json

Written before dataset.json, so that there is no instant at which a build is finished and does not know itself. It is no
part of the data set: without it only the same command is refused, as any other build is.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from shards.errors import BadData, BadUsage
from shards.identity import Identity
from shards.in_order import arrive
from shards.index import DATASET, fingerprint, is_sealed, read_dataset, sealed
from shards.new_file import write_new
from shards.output import Output
from shards.own_files import BUILT
from shards.parts import Covered
from shards.places import Place, reaching, size_of
from shards.rejects import Reject
from shards.resume import occupied
from shards.sources.product import Catalogue, Product
from shards.verify import verify
from shards.writer import Shard

HELD = "a finished data set"


def note_built(output: Output, identity: Identity, covered: Covered, shards: Iterable[Shard]) -> None:
    """Write down what is built, before its dataset.json is there."""
    noted = json.loads(identity.dumped())
    noted |= {"catalogue": covered.hexdigest(), "fingerprint": fingerprint([vars(shard) for shard in shards])}
    write_new(output.folder / BUILT, sealed(noted))


def already_finished(output: Output, identity: Identity, catalogue: Catalogue) -> bool:
    """Whether the output holds what this very build would write; no photograph is opened to find out.

    Goes through the catalogue once. Raises BadUsage where the output holds another data set, or where the catalogue has
    changed since, and BadData where files of the data set lack or have other sizes.
    """
    if DATASET not in output.sizes():
        return False
    noted = noted_of(output.folder)
    asked = {name: noted.get(name) for name in ("source", "options", "versions")}
    if noted and noted.get("fingerprint") != read_dataset(output.folder)["fingerprint"]:
        raise occupied(output, f"{HELD} that was appended to or replaced since it was built")
    if difference := identity.difference(asked):
        raise occupied(output, f"{HELD}: {difference}" if noted else HELD)
    if noted.get("catalogue") != _digest(catalogue.entries):
        raise BadUsage(
            f"folder '{output.folder}' holds {HELD}, and the catalogue has changed since: products or photographs are "
            "not what they were",
            allowed="the catalogue as it was, for which nothing is to do",
            change="skill-shards append adds new products; else take another folder, or --overwrite builds all anew",
        )
    # A journal beside it is no fault: it belongs to an interrupted tidying up, and to whoever asks here.
    if faults := [finding for finding in verify(output.folder).findings if finding.what != "folder"]:
        raise BadData(
            f"'{output.folder}' was damaged since it was built: {faults[0]}",
            allowed="every file as dataset.json describes it",
            change="skill-shards repair where tables or indices are concerned; else --overwrite builds it again",
        )
    return True


def noted_of(folder: Place) -> dict[str, Any]:
    """What is noted beside a finished data set; empty where nothing is, or where it is damaged."""
    if size_of(folder / BUILT) is None:
        return {}
    with reaching(folder):
        text = (folder / BUILT).read_bytes()
    return dict(json.loads(text)) if is_sealed(text) else {}


def _digest(entries: Iterable[Product | Reject]) -> str:
    covered = Covered()
    for entry in entries:
        covered.add(arrive(entry).identity)
    return covered.hexdigest()
