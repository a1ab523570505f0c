"""Which batch goes out when: order, pace, settling, sizes."""

from tests.support import Api


def test_high_overtakes_a_running_medium_between_two_batches(api: Api) -> None:
    """The example everybody knows: the slot opens first, then the batch is chosen."""
    api.ingest([1, 2, 3, 4, 5], "MEDIUM")
    api.advance(4)
    api.ingest([6, 7, 8, 9], "HIGH")
    api.advance(20)

    assert api.sent() == [(0.4, [1, 2, 3]), (5.4, [6, 7, 8]), (10.4, [9]), (15.4, [4, 5])]


def test_classes_are_served_high_before_medium_before_low(api: Api) -> None:
    """Requests posted together, in the wrong order, are sorted by the settling delay."""
    for priority, item in (("LOW", 3), ("MEDIUM", 2), ("HIGH", 1)):
        api.ingest([item], priority)
    api.advance(15)

    assert [items for _, items in api.sent()] == [[1], [2], [3]]
