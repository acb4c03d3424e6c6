"""kNN accuracy of an attribute: does a product's neighbourhood share its type, colour, pattern ...?

Products that carry the label vote with weight exp(similarity / 0.07), k = 20 (the setting of DINO's and InstDisc's
weighted kNN). A query's own variant group never votes for it: its colour variants would give its pattern away.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from skill_fast.evaluate.bootstrap import Estimate, mean_of
from skill_fast.evaluate.neighbors import Neighbors, nearest
from skill_fast.evaluate.similarity import similarity_blocks

NEIGHBORS = 20
TEMPERATURE = 0.07
LISTED_BANK = 4096
"""Bank products above which votes come from lists of neighbours instead of every similarity."""
LONGEST_LIST = 128
MIN_LABELLED = 20
"""Fewest labelled products, among the queries and in the bank, for an accuracy that means anything."""
MAX_CLASSES = 100
"""An attribute with more values is free text or an identifier."""


@dataclass(frozen=True)
class KnnScore:
    """Accuracy over ``queries`` products beside what always naming the bank's most frequent class would reach.

    accuracy has replicates over the queries; how: what was approximated, "" where nothing was.
    """

    accuracy: Estimate
    majority: float
    queries: int
    bank: int
    classes: int
    how: str = ""


def knn_predict(
    embeddings: np.ndarray,
    classes: np.ndarray,
    groups: np.ndarray,
    queries: np.ndarray,
    bank: np.ndarray,
    *,
    k: int = NEIGHBORS,
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """The class that each query's k nearest bank products vote for.

    score(c) = sum over the k nearest j of another group with classes[j] = c of exp(cos(query, j) / temperature)

    Bank products tied at place k share the places left over, so the answer does not depend on the order of the bank.
    A tie between classes goes to the lower code.

    embeddings [n, D]; classes, groups [n] int64; queries, bank: places in [0, n), may overlap.
    Returns [queries] int64, -1 where no bank product is left to vote.
    """
    one_hot = np.eye(int(classes[bank].max()) + 1, dtype=np.float64)[classes[bank]]
    predicted = np.full(len(queries), -1, dtype=np.int64)
    for places, block in similarity_blocks(embeddings[queries], embeddings[bank]):
        similarity = block.astype(np.float64)
        similarity[groups[queries[places], None] == groups[None, bank]] = -np.inf
        weights = _share_of_vote(similarity, min(k, len(bank))) * np.exp(similarity / temperature)
        votes = weights @ one_hot
        predicted[places] = np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), -1)
    return predicted


def neighbor_list(
    embeddings: np.ndarray, groups: np.ndarray, queries: np.ndarray, bank: np.ndarray, k: int = NEIGHBORS
) -> Neighbors:
    """Neighbours among the bank, long enough for k and the query's whole group, at most ``LONGEST_LIST``.

    places count within ``bank``; arguments as in ``knn_predict``.
    """
    largest = int(np.unique(groups[bank], return_counts=True)[1].max())
    asked = embeddings[queries]
    voters = asked if np.array_equal(queries, bank) else embeddings[bank]
    return nearest(asked, voters, min(k + largest + 1, LONGEST_LIST))


def predict_from_list(
    found: Neighbors,
    classes: np.ndarray,
    groups: np.ndarray,
    queries: np.ndarray,
    bank: np.ndarray,
    *,
    k: int = NEIGHBORS,
    temperature: float = TEMPERATURE,
) -> np.ndarray:
    """``knn_predict`` from lists: the same where a list holds all that ties at place k. Returns [queries] int64."""
    predicted = np.full(len(queries), -1, dtype=np.int64)
    for start in range(0, len(queries), 4096):
        rows = slice(start, start + 4096)
        places, own = found.places[rows], groups[queries[rows], None]
        voters = bank[places]
        similarity = np.where(
            (groups[voters] == own) | (places < 0), -np.inf, found.similarity[rows].astype(np.float64)
        )
        weights = _share_of_vote(similarity, min(k, similarity.shape[1])) * np.exp(similarity / temperature)
        votes = np.zeros((len(places), int(classes[bank].max()) + 1))
        np.add.at(votes, (np.arange(len(places))[:, None], classes[voters]), weights)
        predicted[rows] = np.where(votes.sum(axis=1) > 0, votes.argmax(axis=1), -1)
    return predicted


def _share_of_vote(similarity: np.ndarray, k: int) -> np.ndarray:
    """1 for what is nearer than the k-th neighbour, an equal share of the places left for what ties with it, else 0."""
    cut = np.partition(similarity, -k, axis=1)[:, -k, None]
    nearer, tied = similarity > cut, similarity == cut
    left = k - nearer.sum(axis=1, keepdims=True)
    return nearer + tied * left / tied.sum(axis=1, keepdims=True)


def why_not_scorable(values: np.ndarray, queries: np.ndarray, bank: np.ndarray) -> str:
    """Why an attribute ([n] str, "" where unknown) can not be scored, or "" if it can.

    Rule: at least 20 labelled queries and 20 labelled bank products; 2 to 100 classes, and at least two products a
    class on average (else the attribute is an identifier).
    """
    labelled = values != ""
    asked, known = int(labelled[queries].sum()), int(labelled[bank].sum())
    if asked + known == 0:
        return "no product has this label"
    if min(asked, known) < MIN_LABELLED:
        return f"{asked} labelled queries and {known} labelled products in the bank, of each {MIN_LABELLED} are needed"
    seen = np.union1d(queries, bank)
    classes, products = len(np.unique(values[seen][labelled[seen]])), int(labelled[seen].sum())
    if classes < 2:
        return "every product has the same value"
    if classes > min(MAX_CLASSES, products // 2):
        return f"{classes} different values on {products} products: free text or an identifier"
    return ""


def knn_score(
    embeddings: np.ndarray,
    values: np.ndarray,
    groups: np.ndarray,
    queries: np.ndarray,
    bank: np.ndarray,
    *,
    found: Neighbors | None = None,
) -> KnnScore:
    """kNN accuracy of one attribute; products without the label are neither queries nor neighbours.

    embeddings [n, D] product means; values [n] str; groups [n] int64; queries, bank: places in [0, n). ``found``:
    ``neighbor_list`` of the labelled queries and bank, where it is there already.
    """
    queries, bank = queries[values[queries] != ""], bank[values[bank] != ""]
    names, classes = np.unique(values, return_inverse=True)
    if found is None and len(bank) > LISTED_BANK:
        found = neighbor_list(embeddings, groups, queries, bank)
    if found is None:
        predicted = knn_predict(embeddings, classes, groups, queries, bank)
    else:
        predicted = predict_from_list(found, classes, groups, queries, bank)
    truth = classes[queries]
    most_frequent = np.bincount(classes[bank]).argmax()
    return KnnScore(
        accuracy=mean_of(predicted == truth),
        majority=float((truth == most_frequent).mean()),
        queries=len(queries),
        bank=len(bank),
        classes=int((names[np.unique(classes[np.union1d(queries, bank)])] != "").sum()),
        how=found.how if found is not None else "",
    )


def knn_scores(
    embeddings: np.ndarray,
    attributes: Mapping[str, np.ndarray],
    groups: np.ndarray,
    queries: np.ndarray,
    bank: np.ndarray,
) -> Iterator[tuple[str, KnnScore]]:
    """(attribute, score) of every attribute that ``why_not_scorable`` lets pass; equal lists are searched once."""
    searched: dict[bytes, Neighbors] = {}
    for name, values in attributes.items():
        if why_not_scorable(values, queries, bank):
            continue
        labelled, found = values != "", None
        voters = bank[labelled[bank]]
        if len(voters) > LISTED_BANK:
            key = np.packbits(labelled).tobytes()
            if key not in searched:
                # One at a time: lists of a large catalogue are large.
                searched = {key: neighbor_list(embeddings, groups, queries[labelled[queries]], voters)}
            found = searched[key]
        yield name, knn_score(embeddings, values, groups, queries, bank, found=found)
