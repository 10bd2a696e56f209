"""Bodies that no client should send."""

import json

from hypothesis import strategies as st

HOSTILE = {
    "nothing": b"",
    "not a number": b'{"model":"support","input":"a","top_k":NaN}',
    "infinity": b'{"model":"support","input":"a","top_k":Infinity}',
    "lone surrogate": b'{"model":"support","input":"\\ud800"}',
    "surrogate in a key": b'{"\\ud800":1}',
    "surrogate bytes": b'{"model":"support","input":"\xed\xa0\x80"}',
    "bad UTF-8": b'{"model":"support","input":"\xff\xfe"}',
    "overlong UTF-8": b'{"model":"support","input":"\xc0\xaf"}',
    "huge integer": b'{"model":"support","input":"a","top_k":' + b"9" * 5000 + b"}",
    "huge exponent": b'{"model":"support","input":"a","top_k":1e999999}',
    "deep list": b"[" * 90_000,
    "deep closed list": b'{"input":' + b"[" * 3000 + b"]" * 3000 + b"}",
    "deep object": b'{"a":' * 30_000,
    "cut off": b'{"model":"support","inp',
    "trailing bytes": b'{"model":"support","input":"a"} {}',
    "byte order mark": b'\xef\xbb\xbf{"model":"support","input":"a"}',
    "single quotes": b"{'model':'support'}",
    "control character": b'{"model":"support","input":"a\x01"}',
    "null byte outside": b'{"model":"support","input":"a"}\x00',
    "many keys": json.dumps({f"k{i}": i for i in range(5000)}).encode(),
    "a quoted body": json.dumps('{"model": "support"}').encode(),
    "UTF-16": '{"model":"support","input":"a"}'.encode("utf-16"),
}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
