"""Looking and controlling: what is said, what is asked, and how it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_service.cli import _REMOTE
from ingest_service.cli.output import clock_time
from ingest_service.client import PRIORITIES, IngestClient
from tests.cli.support import Run, ids_in, run_at
from tests.client.support import listening
from tests.client.test_hostile_servers import STATUS
from tests.keys.support import secret, table, write
from tests.realtime import Reply, Request, Scripted, answer, reset

ARGUMENTS: dict[str, list[str]] = {
    "submit": ["1"],
    "status": ["x"],
    "watch": ["x"],
    "results": ["x"],
    "ls": [],
    "queue": [],
    "top": ["--times", "1"],
    "when": ["3"],
    "proof": [],
    "cancel": ["x", "--yes"],
    "move": ["x", "HIGH", "--yes"],
    "retry": ["x", "--yes"],
    "pause": ["--reason", "r", "--yes"],
    "resume": [],
    "interval": ["2", "--yes"],
}


@pytest.fixture
def waiting(client: IngestClient) -> list[str]:
    """Give three ingestions that wait for good: LOW, LOW and MEDIUM."""
    client.pause("tests")
    return [
        client.submit(ids=range(1, 7), priority=priority).ingestion_id
        for priority in ("LOW", "LOW", "MEDIUM")
    ]


def test_every_command_is_tried_here() -> None:
    assert ARGUMENTS.keys() == _REMOTE.keys()


def test_a_status_is_one_line(run: Run, waiting: list[str]) -> None:
    ran = run("status", *waiting)
    lines = ran.stdout.splitlines()
    assert ids_in(ran.stdout) == waiting
    assert lines[0].endswith("LOW  yet_to_start  0 %, 0 of 6 settled; The queue is paused: tests.")
    assert json.loads(run("status", waiting[0], "--json").stdout)["priority"] == "LOW"


def test_lists_and_the_queue_are_tables(run: Run, waiting: list[str]) -> None:
    listed = run("ls").stdout.splitlines()
    assert listed[0].split() == ["ID", "CLASS", "STATE", "DONE", "ITEMS", "FAILED", "ACCEPTED"]
    assert [line.split()[0] for line in listed[1:]] == waiting[::-1]
    assert len(run("ls", "--priority", "medium", "--json").stdout.splitlines()) == 1

    queue = run("queue").stdout
    assert queue.startswith("paused, one batch every 0 s, policy strict: tests\n")
    assert ["LOW", "2", "4", "12"] in [line.split()[:4] for line in queue.splitlines()]
    assert run("top", "--times", "2", "--every", "0.2").stdout.count("paused, one batch") == 2


def test_of_many_slots_to_come_the_first_are_listed(run: Run, client: IngestClient) -> None:
    client.set_interval(600)
    client.submit(ids=range(1, 100), priority="LOW")
    slots = client.queue().next
    lines = run("queue").stdout.splitlines()
    assert len(slots) > 30
    assert lines[-2].startswith(clock_time(slots[9].at))
    assert lines[-1] == f"and {len(slots) - 10} more until {clock_time(slots[-1].at)}"


def test_of_others_a_key_that_sees_only_its_own_sees_that_they_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = '["submit", "read", "operate"]'
    keys = write(
        tmp_path / "keys.toml",
        table("boss", secret(1), scopes=everything),
        table("own", secret(2), "own_only = true", scopes=everything),
    )
    with listening(interval=60, simulated_latency=9, api_keys_file=keys) as url:
        boss, own = (IngestClient(url, key=secret(number)) for number in (1, 2))
        others = boss.submit(ids=range(1, 10), priority="HIGH")
        next(status for status in others.follow(20) if status.counts.in_flight)
        mine = own.submit(ids=[1], priority="LOW")
        queue = own.queue()
        assert [batch.ingestion_id for batch in queue.in_flight] == [None]
        assert [slot.ingestion_id for slot in queue.next] == [None, None, mine.ingestion_id]

        monkeypatch.setenv("INGEST_KEY", secret(2))
        run = run_at(url)
        for command in (("queue",), ("top", "--times", "1")):
            ran = run(*command)
            assert (ran.exit_code, ran.stdout.count("another's")) == (0, 3)
            assert ids_in(ran.stdout) == [mine.ingestion_id]
        assert run("retry", mine.ingestion_id).exit_code == 0


@pytest.mark.parametrize("command", [["ls"], ["results", "x"]], ids=["table", "stream"])
def test_a_full_disk_is_one_line(command: list[str]) -> None:
    listed = answer(200, {"ingestions": [], "next_cursor": None})
    with Scripted(lambda _: listed) as server, Path("/dev/full").open("w") as full:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ingest_service", *command],
            env=os.environ | {"INGEST_URL": f"http://127.0.0.1:{server.port}"},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=20,
            check=False,
        )
    assert ran.returncode == 2
    assert ran.stderr.endswith(b"Error: The output cannot be written: No space left on device.\n")
    assert b"Traceback" not in ran.stderr


def test_when_tells_what_a_request_would_see(run: Run, waiting: list[str]) -> None:
    ran = run("when", "1000", "--priority", "MEDIUM")
    assert ran.stdout.startswith("1,000 ids in MEDIUM: 334 batches, ")
    assert json.loads(run("when", "1", "--json").stdout)["dry_run"] is True


def test_a_time_that_the_service_tells_is_one_to_ask_for(run: Run, client: IngestClient) -> None:
    ingestion = client.submit(ids=[1, 2], priority="LOW")
    created_at = ingestion.wait(timeout=20).document["created_at"]
    assert "." in created_at
    ran = run("proof", "--from", created_at)
    assert ran.stdout.startswith("1 batch start,"), ran.stderr
    ran = run("proof", "--from", "2026-01-01T00:00:00.5", "--to", created_at)
    assert ran.stdout.startswith("0 batch starts,"), ran.stderr


def test_a_time_that_there_cannot_be_is_said_to_be_none(run: Run) -> None:
    ran = run("proof", "--to", "9990-12-31")
    assert (ran.exit_code, "from 1970 to 9000" in ran.stderr) == (4, True)


def test_the_proof_is_for_people_and_for_scripts(run: Run, client: IngestClient) -> None:
    client.submit(ids=range(1, 7), priority="LOW").wait(timeout=20)
    assert run("proof").stdout.startswith("2 batch starts, 0 violations\nsmallest gap ")
    assert run("proof", "--from", "2099-01-01").stdout == "0 batch starts, 0 violations\n"
    violated = {
        "from": None, "to": None, "starts": 2, "smallest_gap_seconds": 1, "violations": 1,
        "examples": [{"at": "2026-01-01T12:00:00Z", "ingestion_id": "x", "gap_seconds": 1,
                      "required_seconds": 5}],
    }  # fmt: skip
    with Scripted(lambda _: answer(200, violated)) as server:
        ran = run_at(f"http://127.0.0.1:{server.port}")("proof")
    assert ran.exit_code == 1
    assert "x  1 s instead of 5 s" in ran.stdout


class TestControl:
    """What is changed, and what is asked before."""

    def test_a_move_tells_its_effect_and_asks_where_it_hurts(
        self, run: Run, client: IngestClient, waiting: list[str]
    ) -> None:
        client.set_interval(5)
        client.resume()
        ran = run("move", waiting[1], "HIGH")
        assert ran.exit_code == 2
        assert "other ingestion" in ran.stderr
        assert "--yes" in ran.stderr
        assert client.status(waiting[1]).priority == "LOW"

        assert run("move", waiting[1], "HIGH", "--dry-run").exit_code == 0
        assert client.status(waiting[1]).priority == "LOW"
        done = run("move", waiting[1], "HIGH", "--yes")
        assert "LOW -> HIGH: done about" in done.stdout
        assert client.status(waiting[1]).priority == "HIGH"

    def test_a_move_that_hurts_nobody_is_not_asked_about(
        self, run: Run, waiting: list[str], client: IngestClient
    ) -> None:
        ran = run("move", waiting[1], "LOW")
        assert (ran.exit_code, ran.stderr) == (0, "")

    def test_cancelling_is_asked_about(
        self, run: Run, waiting: list[str], client: IngestClient
    ) -> None:
        ran = run("cancel", *waiting)
        assert ran.exit_code == 2
        assert "18 items of 3 ingestions will never be sent" in ran.stderr
        done = run("cancel", *waiting, "--yes")
        assert done.stdout.splitlines() == [f"{each}  6 items cancelled" for each in waiting]
        # There is nothing to lose any more.
        assert run("cancel", waiting[0]).exit_code == 0

    def test_one_that_is_refused_keeps_nothing_from_the_others(
        self, run: Run, client: IngestClient
    ) -> None:
        finished = client.submit(ids=[1], priority="LOW")
        finished.wait(timeout=20)
        client.pause("tests")
        waits = client.submit(ids=[1, 2, 3], priority="LOW").ingestion_id
        ids = ["unknown", finished.ingestion_id, waits]

        looked = run("status", *ids)
        assert (looked.exit_code, ids_in(looked.stdout)) == (4, ids[1:])
        assert looked.stderr.startswith("unknown:\n")
        ran = run("cancel", *ids, "--yes")
        assert (ran.exit_code, ran.stdout) == (4, f"{waits}  3 items cancelled\n")
        assert "3 items of 1 ingestion will never be sent" in ran.stderr
        assert f"{finished.ingestion_id}:\ningest-service: It is finished" in ran.stderr
        assert ran.stderr.startswith("unknown:\n")

    def test_pausing_and_slowing_down_are_asked_about(
        self, run: Run, waiting: list[str], client: IngestClient
    ) -> None:
        assert run("pause", "--reason", "tests").exit_code == 2
        assert "3 ingestions will wait" in run("pause", "--reason", "r", "--yes").stderr
        assert client.queue().reason == "r"
        ran = run("interval", "10")
        assert ran.exit_code == 2
        assert "3 ingestions will end later, the last one by about 1 min 0 s" in ran.stderr
        assert "one batch every 10 s" in run("interval", "10", "--yes").stdout
        assert run("interval", "5").exit_code == 0
        assert run("resume").stdout.startswith("The queue is running; one batch every 5 s")

    def test_where_batches_take_longer_than_the_interval_that_is_what_counts(self) -> None:
        depth = {"batches": 3, "items": 9, "ingestions": 1, "oldest_at": None}
        slots = [{"at": f"2026-01-01T12:0{at}Z", "ingestion_id": "x", "priority": "LOW"}
                 for at in ("0:10", "0:30", "0:50", "1:10")]  # fmt: skip
        queue = {
            "state": "running", "interval_seconds": 0.5, "policy": "strict", "in_flight": [],
            "next": slots, "depth": dict.fromkeys(PRIORITIES, depth),
        }  # fmt: skip
        with Scripted(lambda _: answer(200, queue)) as server:
            run = run_at(f"http://127.0.0.1:{server.port}")
            for seconds in ("10", "20"):
                ran = run("interval", seconds)
                assert ran.exit_code == 0
                assert ran.stderr.startswith("Nobody ends later: ")
            ran = run("interval", "30")
            assert ran.exit_code == 2
            assert "will end later, the last one by about 1 min 30 s." in ran.stderr

    @pytest.mark.parametrize(
        "reason", ["x" * 1_025, os.fsdecode(b"\xff"), "", " \t"],
        ids=["long", "no text", "empty", "blank"],
    )  # fmt: skip
    def test_a_reason_that_cannot_be_given_is_not_asked_about(
        self, run: Run, waiting: list[str], client: IngestClient, reason: str
    ) -> None:
        client.resume()
        ran = run("pause", "--reason", reason)
        assert (ran.exit_code, "--reason" in ran.stderr) == (2, True)
        assert "will wait" not in ran.stderr
        assert client.queue().state == "running"

    def test_the_longest_reason_is_one(self, run: Run, client: IngestClient) -> None:
        assert run("pause", "--reason", "x" * 1_024).exit_code == 0
        assert client.queue().reason == "x" * 1_024

    def test_what_is_not_tried_again_is_not_asked_about(self) -> None:
        failed = {**STATUS["counts"], "total": 3, "succeeded": 0, "failed": 1, "cancelled": 1}
        depth = {"batches": 1, "items": 1, "ingestions": 1, "oldest_at": None}
        queue = {
            "state": "running", "interval_seconds": 5, "policy": "strict", "in_flight": [],
            "next": [], "depth": dict.fromkeys(PRIORITIES, depth),
        }  # fmt: skip
        refusal = answer(409, {"type": "t", "title": "t", "detail": "It was cancelled."})

        def reply(request: Request) -> Reply:
            if request.method == "POST":
                return refusal
            cancelled = {**STATUS, "outcome": "cancelled", "counts": failed}
            return answer(200, queue if request.target == "/queue" else cancelled)

        with Scripted(reply) as server:
            ran = run_at(f"http://127.0.0.1:{server.port}")("retry", "x")
        assert ran.exit_code == 4
        assert ran.stderr.startswith("ingest-service: It was cancelled.")

    def test_trying_again_is_asked_about_while_others_wait(self) -> None:
        with (
            listening(simulated_success_rate_ids=0.0, max_attempts=1) as url,
            IngestClient(url) as client,
        ):
            failed = client.submit(ids=[1, 2], priority="LOW")
            failed.wait(timeout=20)
            run = run_at(url)
            assert run("retry", failed.ingestion_id).stdout.endswith("2 items once more\n")
            failed.wait(timeout=20)
            client.pause("tests")
            client.submit(ids=[3], priority="LOW")
            ran = run("retry", failed.ingestion_id)
            assert ran.exit_code == 2
            assert "2 items will be sent once more" in ran.stderr
            assert run("retry", failed.ingestion_id, "--yes").exit_code == 0


@pytest.mark.parametrize("command", ARGUMENTS)
class TestAnyCommand:
    """What holds for each of them."""

    def test_nobody_there_is_exit_3(self, command: str) -> None:
        ran = run_at("http://127.0.0.1:1")(command, *ARGUMENTS[command])
        assert (ran.exit_code, ran.stdout) == (3, "")
        assert "Connection refused" in ran.stderr

    def test_a_refusal_is_exit_4_with_its_reason(self, command: str) -> None:
        refusal = answer(401, {"detail": "The key \x1b[2Jis missing.", "status": 401})
        with Scripted(lambda _: refusal) as server:
            ran = run_at(f"http://127.0.0.1:{server.port}")(command, *ARGUMENTS[command])
        assert (ran.exit_code, ran.stdout) == (4, "")
        assert "The key \\u001b[2Jis missing." in ran.stderr
        assert "--key-file" in ran.stderr
        assert "\x1b" not in ran.output

    @pytest.mark.parametrize(
        "reply",
        ["redirect", "reset", "nonsense", "number", "types", "another"],
    )
    def test_a_hostile_server_is_exit_3_and_no_traceback(self, command: str, reply: str) -> None:
        replies: dict[str, Reply] = {
            "redirect": answer(302, {}, Location="http://127.0.0.1:1/"),
            "reset": reset,
            "another": answer(404, b"<p>Not found", Content_Type="text/html"),
            "nonsense": answer(200, b"\x1b[31m<html>"),
            "number": answer(200, b'{"progress":' + b"1" * 1_000_000 + b"}"),
            "types": answer(200, {"ingestion_id": [], "status": 1, "ingestions": 3, "starts": "1"}),
        }
        with Scripted(lambda _: replies[reply]) as server:
            ran = run_at(f"http://127.0.0.1:{server.port}")(command, *ARGUMENTS[command])
        if not (command == "results" and reply in ("nonsense", "number", "types")):
            # What results are is not looked at on their way to a file.
            assert ran.exit_code == 3, ran.output
        assert "Traceback" not in ran.output
        assert isinstance(ran.exception, SystemExit | None)


def test_escape_sequences_are_shown_and_never_obeyed() -> None:
    evil = "\x1b]0;owned\x07\x9b31m\u202e\x7f"
    with Scripted(lambda _: answer(200, {**STATUS, "status": evil, "outcome": evil})) as server:
        run = run_at(f"http://127.0.0.1:{server.port}")
        for arguments in (("status", "x"), ("status", "x", "--json"), ("watch", "x")):
            out = run(*arguments).stdout
            assert out.rstrip("\n").isprintable() or "\n" in out.rstrip("\n")
            assert not set(out) & set("\x1b\x07\x9b\u202e\x7f")
            assert "\\u001b]0;owned\\u0007\\u009b31m\\u202e\\u007f" in out
        assert json.loads(run("status", "x", "--json").stdout)["outcome"] == evil


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
@pytest.mark.parametrize("command", ["status x", "status x --json", "ls", "ls --json", "watch x"])
def test_what_an_encoding_has_no_place_for_is_shown_as_in_json(command: str, encoding: str) -> None:
    told = "\xe4 \u20ac \U0001f600"
    status = {**STATUS, "kind": "ids", "priority": told}
    listed = {"ingestions": [status], "next_cursor": None}
    with Scripted(
        lambda request: answer(200, listed if request.target.startswith("/ing") else status)
    ) as server:
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "ingest_service", *command.split()],
            env=os.environ
            | {"INGEST_URL": f"http://127.0.0.1:{server.port}", "PYTHONIOENCODING": encoding},
            capture_output=True,
            timeout=20,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert rb" \u20ac \ud83d\ude00" in ran.stdout
    if "--json" in command:
        assert json.loads(ran.stdout.decode(encoding))["priority"] == told


@pytest.mark.parametrize("command", ["ls", "queue", "submit 1", "status x"])
def test_an_address_that_goes_on_behind_the_service_is_said_to_be_wrong(
    run: Run, url: str, command: str
) -> None:
    ran = run(*command.split(), "--url", f"{url}/api")
    assert (ran.exit_code, ran.stdout) == (4, "")
    assert "There is nothing at this address" in ran.stderr
    assert ran.stderr.endswith("Is the address in --url or INGEST_URL right?\n")


def test_a_key_comes_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "key"
    file.write_text("ik_12345678_file\n")
    with Scripted(lambda _: answer(401, {})) as server:
        run = run_at(f"http://127.0.0.1:{server.port}")
        run("queue", "--key-file", str(file))
        monkeypatch.setenv("INGEST_KEY", "ik_12345678_environment")
        run("queue")
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer ik_12345678_file", "Bearer ik_12345678_environment",
    ]  # fmt: skip
