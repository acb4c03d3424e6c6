"""Product id <-> key: the name of a product's members within a tar.

Letters, digits, "-" and "_" of ASCII stand for themselves; every other byte of the id's UTF-8 is "%XX", so a key has no
dot, slash or space. A key that would be longer than 64 characters is cut and ends with "%%" and 20 hex digits of the
id's sha256; "%%" occurs in no other key. The id itself stands in the product's JSON.
"""

from __future__ import annotations

import hashlib
import re
import string
from urllib.parse import unquote_to_bytes

MAX_KEY_LENGTH = 64
HASH_DIGITS = 20
_IS_KEY = re.compile(f"[A-Za-z0-9_-]{{1,{MAX_KEY_LENGTH}}}").fullmatch
_PLAIN = frozenset((string.ascii_letters + string.digits + "-_").encode())


def key_of(product_id: str) -> str:
    """The key of a product id of at least one character; raises ValueError where it is empty or not Unicode text."""
    if not product_id:
        raise ValueError("an empty product id has no key")
    if _IS_KEY(product_id):
        return product_id
    raw = product_id.encode("utf-8")
    key = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    if len(key) <= MAX_KEY_LENGTH:
        return key
    head = key[: MAX_KEY_LENGTH - HASH_DIGITS - 2]
    whole = re.sub(r"%[0-9A-F]?$", "", head)
    return f"{whole}%%{hashlib.sha256(raw).hexdigest()[:HASH_DIGITS]}"


def product_id_of(key: str) -> str | None:
    """The product id of a key, or None where the key was cut and only the product's JSON knows it."""
    return None if "%%" in key else unquote_to_bytes(key).decode("utf-8")
