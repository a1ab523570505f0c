"""Bodies of any number of items."""

from itertools import chain

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_service.client import Items, Limits, Piece, parts

IDS = st.lists(st.integers(1, 1_000_000_007), min_size=1, max_size=60)


@given(ids=IDS, max_items=st.integers(1, 20), max_body=st.integers(90, 400), cut=st.data())
def test_ids_are_cut_in_order_within_the_limits_and_always_in_the_same_way(
    ids: list[int], max_items: int, max_body: int, cut: st.DataObject
) -> None:
    """However they come: as numbers, or as text in pieces of any size."""
    limits = Limits(max_items, max_body)
    bodies = [part.body for part in parts(Items.of(ids, None), "LOW", limits)]
    pieces, left = [], ids
    while left:
        size = cut.draw(st.integers(1, len(left)))
        pieces.append(Piece(",".join(map(str, left[:size])).encode(), size))
        left = left[size:]

    assert list(chain(*(orjson.loads(body)["ids"] for body in bodies))) == ids
    assert all(len(body) <= max_body for body in bodies)
    assert all(len(orjson.loads(body)["ids"]) <= max_items for body in bodies)
    assert [part.body for part in parts(Items("ids", pieces), "LOW", limits)] == bodies


def test_mappings_are_cut_by_their_size() -> None:
    mappings = [{"id": str(n), "source": "s" * 50, "target": "t"} for n in range(10)]
    found = list(parts(Items.of(None, mappings), "HIGH", Limits(max_body=400)))
    assert [part.items for part in found] == [3, 3, 3, 1]
    assert all(len(part.body) <= 400 for part in found)


def test_one_that_is_too_large_is_left_for_the_service_to_refuse() -> None:
    mappings = [{"id": "1"}, {"id": "x" * 1_000}, {"id": "2"}]
    found = list(parts(Items.of(None, mappings), "HIGH", Limits(max_body=100)))
    assert [part.items for part in found] == [1, 1, 1]


def test_the_order_of_a_mappings_keys_is_not_its_content() -> None:
    a, b = ({"id": "1", "source": "s"}, {"source": "s", "id": "1"})
    one, other = (next(parts(Items.of(None, [each]), "LOW", Limits())) for each in (a, b))
    assert one.digest() == other.digest()


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_json_does_not_know_is_not_made_into_null(number: float) -> None:
    mapping = {"id": "a", "transformation": {"factors": [1.0, number]}}
    with pytest.raises(ValueError, match="cannot be sent as JSON"):
        list(Items.of(None, [mapping]).pieces)
