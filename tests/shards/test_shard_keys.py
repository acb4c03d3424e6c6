import re
import string

from hypothesis import example, given
from hypothesis import strategies as st

from shards.keys import key_of, product_id_of

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)


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
