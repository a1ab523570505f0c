"""Charts of what was, and the numbers of today."""

import re

from tests.support import Api
from tests.web.dashboard.support import look
from tests.web.support import half


def test_the_past_is_drawn_with_its_numbers_beside_it(still: Api) -> None:
    still.upstream.reply = half
    still.ingest(range(1, 31), "HIGH")
    still.advance(130)
    html = still.client.get("/dashboard").text

    assert re.findall('<figure class="chart" id="chart-([a-z]+)"', html) == [
        "depth",
        "throughput",
        "waits",
        "upstream",
    ]
    assert html.count('<rect class="used"') == 2
    # Ten batches of three, of which one item fails: all within the first minute.
    text = look(still, "/dashboard")
    assert "Done today (UTC) 20 10 items failed" in text
    # Bounds of the buckets in which they are counted, and no more.
    expected = "within 1 s half of the batches, 95 % within 1 s; 33 % of the items failed"
    assert f"Upstream, last hour {expected}" in text.replace("\u00a0", " ")


def test_a_period_is_chosen_by_a_link(still: Api) -> None:
    for period, steps in (("1h", 60), ("24h", 96), ("7d", 168)):
        html = still.client.get(f"/dashboard?range={period}").text
        assert html.count(f'viewBox="0 0 {steps} 1000"') == 4


def test_what_was_done_to_the_queue_is_told(still: Api) -> None:
    still.client.post("/queue/pause", json={"reason": "<b>a flood</b>"})
    still.advance(60)
    html = still.client.get("/dashboard").text
    assert "pause: &lt;b&gt;a flood&lt;/b&gt;" in html
    assert 'class="mark"' in html


def test_the_numbers_of_today_are_those_of_this_moment(still: Api) -> None:
    """The minute that is not over counts as well."""
    assert "Done today (UTC) 0 0 items failed" in look(still, "/dashboard")
    still.ingest([1])
    still.advance(6)
    assert "Done today (UTC) 1 0 items failed" in look(still, "/dashboard")
