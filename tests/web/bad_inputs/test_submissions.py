"""Bodies that ask for nothing sensible: refused in words, nothing is stored."""

import json
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from tests.web.bad_inputs.support import PRIORITIES, SHARED, VALID, post, refused

MAPPING = {"id": "a", "source": "s", "target": "t"}


def mappings(*given: object) -> dict[str, Any]:
    """Return a request for mappings."""
    return {"mappings": list(given), "priority": "LOW"}


def calls(look: Callable[[], object]) -> int:
    """Return how many functions `look` calls, of Python and of C."""
    counted = 0

    def profile(_: FrameType, event: str, __: object) -> None:
        nonlocal counted
        counted += event in {"call", "c_call"}

    sys.setprofile(profile)
    try:
        look()
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "line 1 column 1"),
        (b" \n ", "line 2 column 2"),
        (b'{"ids":[1]', "line 1 column 11"),
        (b'{"ids":[1,]}', "line 1 column 11"),
        (b"{'ids':[1]}", "line 1 column 2"),
        (b'{"ids":[1]}x', "line 1 column 12"),
        (VALID + VALID, "line 1 column 29"),
        (b'{"ids":[01],"priority":"LOW"}', "line 1 column 10"),
        (b'{"ids":[0x1],"priority":"LOW"}', "line 1 column 10"),
        (b'{"ids":[+1],"priority":"LOW"}', "line 1 column 9"),
        (b'{"ids":[1],/**/"priority":"LOW"}', "line 1 column 12"),
        (b"ids=1&priority=LOW", "line 1 column 1"),
        (b'{"ids":[NaN],"priority":"LOW"}', "NaN"),
        (b'{"ids":[Infinity],"priority":"LOW"}', "Infinity"),
        (b'{"ids":[-Infinity],"priority":"LOW"}', "Infinity"),
        (b'{"ids":[1e400],"priority":"LOW"}', "1e400"),
        (b'{"ids":[1],"ids":[2],"priority":"LOW"}', '"ids"'),
        (b'{"mappings":[{"id":"a","id":"b","source":"s","target":"t"}]}', '"id"'),
        (b'{"ids":[' + b"9" * 5_000 + b'],"priority":"LOW"}', "digits"),
        (b'{"ids":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested"),
        (VALID.decode().encode("utf-16"), "UTF-8"),
        (VALID.decode().encode("utf-16-le"), "line 1 column 2"),
        (VALID.decode().encode("utf-8-sig")[:-1], "line 1 column 28"),
        (b"\xef\xbb\xbf" * 2 + VALID, "BOM"),
        (b"\xff", "UTF-8"),
        (b'{"ids":[1],"priority":"\xed\xa0\x80"}', "UTF-8"),
        (b'{"ids":[1],"priority":"\\ud800"}', "surrogate"),
        (b'{"ids":[1],"\\udfff":1}', "surrogate"),
        (b'{"mappings":[{"id":"\\ud800","source":"s","target":"t"}]}', "surrogate"),
        (b'{"ids":[1],"priority":"LOW\x00"}', "control character"),
    ],
)
def test_a_body_that_is_not_json_for_everybody_is_refused(
    client: FlaskClient, body: bytes, says: str
) -> None:
    assert says in refused(post(client, body), 400, "invalid-json")["detail"]


@pytest.mark.parametrize("value", [None, 1, -1.5, "x", "", True, [1, 2], []], ids=repr)
def test_a_body_that_is_not_an_object_is_refused(client: FlaskClient, value: object) -> None:
    problem = refused(post(client, value), 400, "validation-error")
    assert problem["errors"] == [{"pointer": "", "detail": "This must be a JSON object."}]


def test_an_empty_object_is_told_all_that_is_missing(client: FlaskClient) -> None:
    problem = refused(post(client, {}), 400, "validation-error")
    assert {each["pointer"] for each in problem["errors"]} == {"/ids", "/priority"}


@pytest.mark.parametrize("ids", [[1], [], 0, False], ids=repr)
def test_ids_and_mappings_together_are_refused(client: FlaskClient, ids: object) -> None:
    problem = refused(post(client, mappings(MAPPING) | {"ids": ids}), 400, "validation-error")
    assert problem["detail"] == "Give either ids or mappings, not both."


def test_a_null_beside_nothing_is_what_is_wrong(client: FlaskClient) -> None:
    body = {"ids": None, "mappings": None, "priority": "LOW"}
    problem = refused(post(client, body), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/ids"]


@pytest.mark.parametrize("ids", [[], "1,2,3", {"0": 1}, None, 1, True, ""], ids=repr)
@pytest.mark.parametrize("key", ["ids", "mappings"])
def test_what_is_not_a_list_with_something_in_it_is_refused(
    client: FlaskClient, key: str, ids: object
) -> None:
    problem = refused(post(client, {key: ids, "priority": "LOW"}), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == [f"/{key}"]


@pytest.mark.parametrize(
    "bad",
    [
        *(0, -1, 1_000_000_008, 2**32 + 1, 2**63, 2**64, 10**300, 1.5, -0.0, 1e300, 1e-300),
        *("1", "", True, False, None, [1], [], {}, {"id": 1}),
    ],
    ids=repr,
)
def test_what_is_not_an_id_is_pointed_to(client: FlaskClient, bad: object) -> None:
    body = {"ids": [bad], "priority": "LOW"}
    problem = refused(post(client, body), 400, "validation-error")
    expected = "An id must be a whole number from 1 to 1000000007."
    assert problem["errors"] == [{"pointer": "/ids/0", "detail": expected}]


def test_one_bad_id_among_good_ones_refuses_them_all(client: FlaskClient) -> None:
    body = {"ids": [*range(1, 1000), "x", 1000], "priority": "LOW"}
    problem = refused(post(client, body), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/ids/999"]


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [0] * 10_000, "priority": "LOW"},
        mappings(*[{}] * 10_000),
        mappings(*[None] * 10_000),
        mappings(*[MAPPING] * 10_001),
    ],
    ids=["ids", "empty mappings", "no mappings", "one mapping repeated"],
)
def test_of_many_errors_twenty_are_listed_and_the_others_counted(
    client: FlaskClient, body: object
) -> None:
    problem = refused(post(client, body), 400, "validation-error")
    assert len(problem["errors"]) == 20
    # An empty mapping lacks three keys, so its twenty errors are those of seven mappings.
    assert problem["errors_omitted"] >= 9_980


def test_ten_thousand_bad_ids_are_counted_exactly(client: FlaskClient) -> None:
    problem = refused(post(client, {"ids": [0] * 10_000, "priority": 1}), 400, "validation-error")
    assert problem["errors_omitted"] == 9_981


@pytest.mark.parametrize(
    "priority",
    [
        *("high", "", "HIGH ", "URGENT", "HİGH", "1", "__class__", "mro", "name", "_member_map_"),
        *(2, 1.0, None, True, ["HIGH"], {"HIGH": 1}),
    ],
    ids=repr,
)
def test_what_is_not_a_priority_is_told_the_allowed_ones(
    client: FlaskClient, priority: object
) -> None:
    problem = refused(post(client, {"ids": [1], "priority": priority}), 400, "validation-error")
    assert problem["errors"] == [{"pointer": "/priority", "detail": PRIORITIES}]


def test_a_missing_priority_is_told_the_allowed_ones(client: FlaskClient) -> None:
    problem = refused(post(client, {"ids": [1]}), 400, "validation-error")
    assert problem["errors"] == [
        {"pointer": "/priority", "detail": f"This key is missing. {PRIORITIES}"}
    ]


@pytest.mark.parametrize(
    ("key", "pointer", "hint"),
    [
        ("prioritty", "/prioritty", "did you mean priority?"),
        ("Ids", "/Ids", "did you mean ids?"),
        ("mapping", "/mapping", "did you mean mappings?"),
        ("", "/", "known are ids, mappings, priority."),
        ("a/b~c", "/a~1b~0c", "known are"),
        ("_schema", "/_schema", "known are"),
        ("\0omitted", "/\0omitted", "known are"),
        ("__proto__", "/__proto__", "known are"),
        ("0", "/0", "known are"),
        ("<script>alert(1)</script>", "/<script>alert(1)<~1script>", "known are"),
    ],
)
def test_an_unknown_key_is_named_with_the_one_probably_meant(
    client: FlaskClient, key: str, pointer: str, hint: str
) -> None:
    body = {"ids": [1], "priority": "LOW", key: "LOW"}
    (error,) = refused(post(client, body), 400, "validation-error")["errors"]
    assert error["pointer"] == pointer
    assert error["detail"].startswith("Unknown key; ")
    assert hint in error["detail"]


def test_an_unknown_key_in_a_mapping_is_pointed_to(client: FlaskClient) -> None:
    for key, hint in (
        ("sources", "did you mean source?"),
        ("_schema", "known"),
        ("\0omitted", "known"),
    ):
        body = mappings(MAPPING, MAPPING | {"id": "b", key: 1})
        (error,) = refused(post(client, body), 400, "validation-error")["errors"]
        assert error["pointer"] == f"/mappings/1/{key}"
        assert hint in error["detail"]


def test_a_very_long_unknown_key_is_not_repeated_in_full(client: FlaskClient) -> None:
    refused(post(client, {"ids": [1], "k" * 1_000_000: 1}), 400, "validation-error")


@pytest.mark.parametrize(
    "body",
    [
        {"ids": [1], "priority": "LOW"} | {f"k{number}": 1 for number in range(100_000)},
        mappings(*[{"sources": 1}] * 100_000),
    ],
    ids=["keys", "mappings"],
)
def test_being_wrong_a_hundred_thousand_times_costs_nobody_much(
    client: FlaskClient, body: object
) -> None:
    """Only what is listed is worked out in detail; it took seconds when everything was."""
    data = json.dumps(body).encode()
    assert calls(lambda: refused(post(client, data), 400, "validation-error")) < 15 * 100_000
    assert refused(post(client, data), 400, "validation-error")["errors_omitted"] >= 99_980


@pytest.mark.parametrize("key", ["id", "source", "target"])
@pytest.mark.parametrize("bad", ["", "x" * 1_025, 1, None, True, ["x"], {}], ids=repr)
def test_a_text_of_a_mapping_that_is_none_is_pointed_to(
    client: FlaskClient, key: str, bad: object
) -> None:
    body = mappings(MAPPING, {**MAPPING, "id": "b", key: bad})
    (error,) = refused(post(client, body), 400, "validation-error")["errors"]
    assert error["pointer"] == f"/mappings/1/{key}"


@pytest.mark.parametrize("key", ["id", "source", "target"])
def test_a_mapping_that_lacks_a_text_is_pointed_to(client: FlaskClient, key: str) -> None:
    body = mappings({name: text for name, text in MAPPING.items() if name != key})
    problem = refused(post(client, body), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == [f"/mappings/0/{key}"]


def test_two_mappings_with_one_id_are_refused(client: FlaskClient) -> None:
    problem = refused(post(client, mappings(MAPPING, MAPPING)), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/mappings/1/id"]


@pytest.mark.parametrize("bad", [None, 1, "x", [], [MAPPING], True], ids=repr)
def test_what_is_not_a_mapping_is_pointed_to(client: FlaskClient, bad: object) -> None:
    problem = refused(post(client, mappings(bad)), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/mappings/0"]


def nested(depth: int) -> dict[str, Any]:
    """Return an object with `depth` levels, itself included."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"below": value}
    return value


@pytest.mark.parametrize(
    "bad",
    [[], "x", 1, nested(17), {"a": [[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}, {"n": 2**63}],
    ids=repr,
)
def test_a_transformation_that_cannot_be_kept_is_pointed_to(
    client: FlaskClient, bad: object
) -> None:
    body = mappings(MAPPING | {"transformation": bad})
    problem = refused(post(client, body), 400, "validation-error")
    assert [each["pointer"] for each in problem["errors"]] == ["/mappings/0/transformation"]


words = st.sampled_from(["ids", "mappings", "priority", "LOW", "_schema", "id", "source", "target"])


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | words,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(words | st.text(), inner, max_size=3)
    ),
    max_leaves=10,
)


requests = st.fixed_dictionaries(
    {},
    optional={
        "ids": st.lists(st.integers(-1, 0) | json_like) | json_like,
        "priority": st.sampled_from(["low", "", None]) | json_like,
        "mappings": st.lists(st.just({**MAPPING, "x": 1}) | json_like) | json_like,
    },
)


@limits(deadline=None, derandomize=True, suppress_health_check=[SHARED], max_examples=150)
@given(st.binary() | (json_like | requests).map(lambda value: json.dumps(value).encode()))
def test_whatever_is_posted_is_answered_in_json(client: FlaskClient, body: bytes) -> None:
    # Chance may write a valid request; without a valid key even that is not stored.
    answer = post(client, body, **{"Idempotency-Key": ""})
    slug = json.loads(answer.data)["type"].rpartition("/")[2]
    assert slug in ("invalid-json", "validation-error")
    refused(answer, 400, slug)
