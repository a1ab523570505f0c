"""What is changed on the pages, and what is shown before."""

import io
import re

import pytest

from ingest_service.settings import Settings
from tests.support import Api, serving
from tests.web.dashboard.support import look, send, words
from tests.web.support import NO, get


def test_the_queue_is_paused_with_a_reason_and_resumed(still: Api) -> None:
    answer = send(still, "/pause", reason=" a flood ", back="/dashboard/ingestions?rows=50")
    assert (answer.status_code, answer.location) == (303, "/dashboard/ingestions?rows=50")
    assert get(still.client, "/queue")["reason"] == "a flood"
    send(still, "/resume")
    assert get(still.client, "/queue")["state"] == "running"


@pytest.mark.parametrize(
    "back", ["//elsewhere", "https://elsewhere", "/docs", "/dashboard\\x", "/dashboardx", "", "\n"]
)
def test_a_form_leads_back_to_one_of_these_pages_only(still: Api, back: str) -> None:
    assert send(still, "/resume", back=back).location == "/dashboard"


def test_the_rate_is_changed(still: Api) -> None:
    send(still, "/interval", seconds="2.5")
    assert get(still.client, "/queue")["interval_seconds"] == 2.5
    for wrong in ("", "-1", "nan", "1e3", "90000", "x"):
        assert send(still, "/interval", seconds=wrong).status_code == 400


def test_a_page_of_another_origin_changes_nothing(still: Api) -> None:
    answer = still.client.post("/dashboard/pause", headers={"Origin": "http://elsewhere"})
    assert answer.status_code == 403
    assert get(still.client, "/queue")["state"] == "running"


def test_what_a_cancellation_does_is_shown_before_it_is_done(still: Api) -> None:
    chosen = [still.ingest(range(1, 8)), still.ingest([1])]
    still.advance(1)
    asked = send(still, "/confirm", action="cancel", id=chosen)
    text = words(asked)
    assert "Cancel 2 ingestions?" in text
    assert "4 items of 7 will never be sent; 3 items under way will end." in text
    assert still.status(chosen[0])["counts"]["cancelled"] == 0

    done = words(send(still, "/act", action="cancel", id=chosen))
    assert "2 ingestions cancelled" in done
    assert still.status(chosen[0])["counts"]["cancelled"] == 4


def test_what_a_move_costs_the_others_is_shown_before_it_is_done(still: Api) -> None:
    still.ingest([1, 2, 3], "HIGH")
    urgent = still.ingest(range(1, 7), "MEDIUM")
    chosen = still.ingest([1, 2, 3], "LOW")
    asked = words(send(still, "/confirm", action="move", priority="HIGH", id=chosen))
    assert "Move this ingestion to HIGH?" in asked
    assert "1 other ingestion will end later, by 5 s at most." in asked
    assert "It would be finished about 12:00:06 UTC instead of 12:00:16 UTC." in asked
    assert still.status(chosen)["priority"] == "LOW"

    done = send(still, "/act", action="move", priority="HIGH", id=chosen)
    assert (done.status_code, done.location) == (303, f"/dashboard/ingestions/{chosen}")
    assert still.status(chosen)["priority"] == "HIGH"
    assert still.status(urgent)["queue"]["batches_ahead"] == 2


def test_failed_items_are_tried_again(still: Api) -> None:
    still.upstream.reply = lambda batch: [NO] * len(batch.items)
    chosen = still.ingest([1, 2])
    still.advance(3)
    asked = words(send(still, "/confirm", action="retry", id=chosen))
    assert "2 failed items will be sent once more" in asked
    send(still, "/act", action="retry", id=chosen)
    assert still.status(chosen)["counts"]["queued"] == 2


def test_what_cannot_be_done_is_said_and_left_out(still: Api) -> None:
    finished = still.ingest([1])
    still.advance(3)
    waits = still.ingest([2])
    unknown = "8f14e45f-ceea-467f-a8f5-1c2b3d4e5f60"
    answer = send(still, "/confirm", action="cancel", id=[finished, waits, unknown])
    text = words(answer)
    assert "It is finished: succeeded." in text
    assert "Nobody knows it (any more)." in text
    assert re.findall(r'name="id" value="([^"]*)"', answer.text) == [waits]


@pytest.mark.parametrize(
    "form",
    [
        {"action": "cancel"},
        {"action": "delete", "id": "x"},
        {"action": "move", "id": "x"},
        {"action": "move", "priority": "high", "id": "x"},
        {"action": "cancel", "id": [str(number) for number in range(201)]},
    ],
)
def test_a_form_that_makes_no_sense_is_refused(still: Api, form: dict[str, object]) -> None:
    for path in ("/confirm", "/act"):
        assert send(still, path, **form).status_code == 400


class TestSubmitting:
    """`/dashboard/submit`."""

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("1 2,3;4\r\n5", "5 ids in 2 batches of up to 3"),
            ('"id"\n7\n8\n', "2 ids in 1 batch of"),
            ("[1, 2]", "2 ids in"),
            ('{"ids": [1], "priority": "LOW"}', "1 id in"),
            ('[{"id": "a", "source": "s", "target": "t"}]', "1 mapping in"),
        ],
    )
    def test_the_plan_comes_before_anything_is_sent(
        self, still: Api, text: str, expected: str
    ) -> None:
        answer = send(still, "/submit", items=text, priority="HIGH")
        assert expected in words(answer)
        assert "finished about" in words(answer)
        assert get(still.client, "/health")["active_requests"] == 0

        sent = send(still, "/submit", items=text, priority="HIGH", do="send")
        ingestion_id = sent.location.rpartition("/")[2]
        assert still.status(ingestion_id)["priority"] == "HIGH"

    def test_a_file_is_as_good(self, still: Api) -> None:
        file = (io.BytesIO(b"\xef\xbb\xbf1\n2\n3\n"), "ids.txt")
        answer = still.client.post("/dashboard/submit", data={"file": file, "priority": "LOW"})
        assert "3 ids in" in words(answer)

    def test_what_was_pasted_comes_back_literally(self, still: Api) -> None:
        text = "\n</textarea><script>alert(1)</script>"
        answer = send(still, "/submit", items=text, priority="LOW")
        assert "<script>alert" not in answer.text
        assert "these are none: “</textarea><script>alert(1)</script>”" in words(answer)

    @pytest.mark.parametrize(
        ("text", "priority", "expected"),
        [
            ("", "LOW", "Paste at least one id."),
            ("1 x", "LOW", "these are none: “x”"),
            ("0", "LOW", "An id must be a whole number from 1"),
            ("1", "urgent", "priority"),
            ("[1", "LOW", "not valid JSON"),
            ("[]", "LOW", "from 1 to"),
            ('{"idz": [1]}', "LOW", "idz"),
            ("1\n" * 20 + "y " * 20, "LOW", "and 10 more"),
        ],
    )
    def test_what_is_wrong_is_said_in_words(
        self, still: Api, text: str, priority: str, expected: str
    ) -> None:
        answer = send(still, "/submit", items=text, priority=priority, do="send")
        assert answer.status_code == 200
        assert expected in words(answer)
        assert get(still.client, "/health")["active_requests"] == 0

    def test_what_nobody_can_need_is_refused_before_it_is_built(self) -> None:
        """As over HTTP."""
        text = "[" + "[]," * 300_000 + "[]]"
        with serving(Settings(max_items=10), threaded=False) as api:
            answer = send(api, "/submit", items=text, priority="LOW")
        assert answer.status_code == 413
        assert "The body has more values than 10 items can need." in words(answer)

    @pytest.mark.parametrize("heading", ["", "ids\n"])
    def test_no_more_ids_are_looked_at_than_there_may_be(self, heading: str) -> None:
        """The first behind them is one too many, whatever it is."""
        with serving(Settings(max_items=10), threaded=False) as api:
            fits = send(api, "/submit", items=heading + "1 " * 10, priority="LOW")
            answer = send(api, "/submit", items=heading + "1 " * 11 + "x", priority="LOW")
        assert "10 ids in" in words(fits)
        assert "These are more than 10 ids." in words(answer)
        assert "“x”" not in words(answer)

    def test_a_hundred_thousand_ids_can_be_pasted(self, still: Api) -> None:
        text = "\n".join(map(str, range(1, 100_001)))
        answer = send(still, "/submit", items=text, priority="LOW", do="send")
        assert "100 000" in look(still, answer.location)
