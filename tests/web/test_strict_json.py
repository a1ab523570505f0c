"""The reader for JSON from strangers."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_service.web.strict_json import InvalidJson, read_json

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None, derandomize=True)
@given(json_values, st.booleans())
def test_what_json_can_say_is_read_back_unchanged(value: object, escaped: bool) -> None:
    assert read_json(json.dumps(value, ensure_ascii=escaped).encode()) == value


@settings(deadline=None, derandomize=True)
@given(st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused_in_words(body: bytes) -> None:
    try:
        read_json(body)
    except InvalidJson as error:
        assert str(error).endswith(".")  # noqa: PT017 - most bytes are refused, some are JSON


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "Expecting value at line 1 column 1"),
        (b'{"a":\n  [1}', "Expecting ',' delimiter at line 2 column 5"),
        (b"[1]x", "Extra data at line 1 column 4"),
        (b"[NaN]", "NaN is not a JSON number"),
        (b"[-Infinity]", "-Infinity is not a JSON number"),
        (b"[-1e400]", "The number -1e400 is too large"),
        (b"1" * 5_000, "An integer has too many digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":1,"b":{"c":1,"c":2}}', 'The key "c" appears twice'),
        (b'{"a":1,"\\u0061":2}', 'The key "a" appears twice'),
        (b"\xff", "not UTF-8 text: see byte 0"),
        (b'"ab\xed\xa0\x80"', "not UTF-8 text: see byte 3"),
        ('{"a":1}'.encode("utf-16"), "not UTF-8"),
        (b"\xef\xbb\xbf" * 2 + b'{"a":1}', "BOM"),
        (b'"\\ud800"', "half of a surrogate pair"),
        (b'{"\\uDFFF":1}', "half of a surrogate pair"),
        (b'"\\udc00\\ud800"', "half of a surrogate pair"),
        (b'"\x00"', "Invalid control character"),
    ],
)
def test_what_readers_disagree_about_is_refused_with_the_reason(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidJson) as refused:
        read_json(body)
    assert reason in str(refused.value)


def test_a_whole_surrogate_pair_is_one_character() -> None:
    assert read_json(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


def test_an_escaped_backslash_before_a_u_is_not_a_surrogate() -> None:
    assert read_json(rb'"\\ud800"') == "\\ud800"


def test_the_reason_stays_short_however_long_the_key_is() -> None:
    key = "k" * 1_000_000
    with pytest.raises(InvalidJson) as refused:
        read_json(f'{{"{key}":1,"{key}":2}}'.encode())
    assert len(str(refused.value)) < 200
