"""`ingest-service submit`: what it reads, what it says, what is safe to repeat."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ingest_service.cli.remote import reading
from ingest_service.client import IngestClient
from tests.cli.support import Run, ids_in, run_at
from tests.client.support import listening
from tests.realtime import Scripted, answer, reset

ROOT = str(Path(__file__).parents[2])
#: The command, for which it is not worth trying again.
IMPATIENT = (
    "from ingest_service.cli import main\n"
    "from ingest_service.cli.remote import asking\n"
    "asking.PATIENCE = 0.0\n"
    "main()"
)


def items_of(client: IngestClient, text: str) -> list[int | str]:
    """Return what was submitted, as its results tell it."""
    items: list[int | str] = []
    for ingestion_id in ids_in(text):
        client.ingestion(ingestion_id).wait(timeout=20)
        items += [result.item for result in client.results(ingestion_id)]
    return items


def test_ids_and_ranges_are_submitted(run: Run, client: IngestClient) -> None:
    ran = run("submit", "1", "5-8", "3,4", "--priority", "high")
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert items_of(client, ran.stdout) == [1, 5, 6, 7, 8, 3, 4]
    assert client.status(ids_in(ran.stdout)[0]).priority == "HIGH"


@pytest.mark.parametrize(
    ("text", "options", "items"),
    [
        ("1\n2\n3\n", (), [1, 2, 3]),
        ("1\r\n2\r\n3", (), [1, 2, 3]),
        ("\ufeff\n\n 7 \n\n001\n5-7\n8, 9\n", (), [7, 1, 5, 6, 7, 8, 9]),
        ("[1, 2,\n 3]", (), [1, 2, 3]),
        ('name,id\na,4\n"b\nc",5\n', ("--column", "id"), [4, 5]),
        ('{"id":"a","source":"s","target":"t"}\n\n{"id":"b","source":"s","target":"t"}', (),
         ["a", "b"]),
        ('[{"id":"a","source":"s","target":"t"}, {"id":"b","source":"s","target":"t"}]', (),
         ["a", "b"]),
    ],
    ids=["lines", "windows", "odd lines", "array", "csv", "ndjson", "array of mappings"],
)  # fmt: skip
@pytest.mark.parametrize("way", ["file", "stdin"])
def test_every_form_of_a_file_is_read(
    client: IngestClient,
    run: Run,
    tmp_path: Path,
    text: str,
    options: tuple[str, ...],
    items: list[object],
    way: str,
) -> None:
    path = tmp_path / "items"
    path.write_text(text, newline="")
    if way == "file":
        ran = run("submit", "-f", str(path), *options)
    else:
        ran = run("submit", "-", *options, text=text.encode())
    assert ran.exit_code == 0, ran.stderr
    assert items_of(client, ran.stdout) == items


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("block", range(1, 14))
def test_lines_are_the_same_wherever_a_block_ends(
    monkeypatch: pytest.MonkeyPatch, block: int, end: str
) -> None:
    monkeypatch.setattr(reading, "_BLOCK", block)
    for lines in (
        ["12", "3", "", "007", "", "", "50", "8"],
        ["1\r", "20\r", "3"],
        ["40", "50", "6"],
    ):
        text = "\n".join(lines) + end
        pieces = list(reading.items_of_file(io.BytesIO(text.encode()), "ids", None).pieces)
        ids = [int(each) for piece in pieces for each in piece.text.split(b",")]
        assert ids == [int(line) for line in lines if line.strip()]
        assert sum(piece.count for piece in pieces) == len(ids)


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("1\n2\nabc\n", (), ":3: 'abc' is neither an id nor a range"),
        ("5-1\n", (), ":1: '5-1' is neither"),
        ("\n \n\nabc\n", (), ":4: 'abc' is neither"),
        ("\x1b[31m1\n", (), "\\u001b[31m1"),
        ("a,b\n1,2\n", ("--column", "id"), "has no column 'id'"),
        ('{"id": "a"\n', (), ":1: this is not JSON"),
        ('[1, 2', (), "is no JSON array"),
        ('[1 2]', (), "is no JSON array"),
        ("", (), "There is nothing to submit"),
        ("[1,2]\n[3,4]", (), "there is something behind the array"),
        ("[1,2] 3", (), "there is something behind the array"),
        ('{"id":"a","id":"b"}', (), ":1: this is not JSON: a key appears twice"),
        ('[{"id":"a","id":"b"}]', (), "a key appears twice"),
        ('[{"id":"a","transformation":{"x":NaN}}]', (), "NaN is not a JSON number"),
        ('[{"id":"a","transformation":{"x":1e999}}]', (), "a number is infinite"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(
    run: Run, tmp_path: Path, text: str, options: tuple[str, ...], told: str
) -> None:
    path = tmp_path / "items"
    path.write_text(text)
    ran = run("submit", "-f", str(path), *options)
    assert ran.exit_code == 2
    assert told in ran.stderr.replace("'\\x1b", "'\\u001b")
    assert "\x1b" not in ran.output


@pytest.mark.parametrize(
    "text", [b'[{"id":"\xff"}]', b'{"id":"\xff"}', b'[1, "\xff'], ids=["array", "line", "cut off"]
)
def test_what_is_no_text_is_not_made_into_some(run: Run, text: bytes) -> None:
    ran = run("submit", "-", text=text)
    assert ran.exit_code == 2
    assert "Error: " in ran.stderr


def test_what_the_service_refuses_is_sent_as_it_is(run: Run) -> None:
    ran = run("submit", "-", text=b"[null, 1]")
    assert ran.exit_code == 4
    assert "/ids/0" in ran.stderr or "whole number" in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [("submit",), ("submit", "1", "-f", "x"), ("submit", "1", "--key", "k", "--once"),
     ("submit", "-f", "/does/not/exist"), ("submit", "1", "--priority", "URGENT"),
     ("submit", "1", "--key", "a b"), ("submit", "1", "--url", "nowhere"),
     ("submit", "1", "--key", ""), ("submit", "1", "--results", "")],
)  # fmt: skip
def test_wrong_usage_is_2(run: Run, arguments: tuple[str, ...]) -> None:
    ran = run(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "Error: " in ran.stderr


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--column id", "--column is of a file"),
        ("--timeout 5", "--timeout is for --wait and --results"),
        ("--dry-run --wait", "--dry-run submits nothing"),
        ("--dry-run --results out.csv", "--dry-run submits nothing"),
        ("--dry-run --timeout 5", "--timeout is for"),
    ],
)
def test_an_option_that_would_have_no_effect_is_refused(
    run: Run, client: IngestClient, options: str, told: str
) -> None:
    ran = run("submit", "1", *options.split())
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert told in ran.stderr
    assert list(client.ingestions()) == []


def test_large_files_go_in_several_requests(tmp_path: Path) -> None:
    path = tmp_path / "ids"
    path.write_text("".join(f"{n}\n" for n in range(1, 2_501)))
    with listening(max_items=1_000) as url, IngestClient(url) as client:
        ran = run_at(url)("submit", "-f", str(path))
        assert [line.split("  ")[1] for line in ran.stdout.splitlines()] == [
            "1,000 items", "1,000 items", "500 items",
        ]  # fmt: skip
        assert items_of(client, ran.stdout) == list(range(1, 2_501))


def test_it_waits_and_fetches(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    ran = run("submit", "1-4", "--wait", "--results", str(out))
    assert ran.exit_code == 0
    assert "100 %, 4 of 4 settled" in ran.stdout.splitlines()[-1]
    assert [line.partition(",")[0] for line in out.read_text().splitlines()] == [
        "id", "1", "2", "3", "4",
    ]  # fmt: skip


def test_failed_items_are_exit_1(tmp_path: Path) -> None:
    with listening(simulated_success_rate_ids=0.0, max_attempts=1) as url:
        ran = run_at(url)("submit", "1", "--wait")
    assert ran.exit_code == 1
    assert "1 failed" in ran.stdout


def test_a_wait_that_is_too_long_is_exit_5_and_loses_nothing(
    run: Run, client: IngestClient
) -> None:
    client.pause("tests")
    ran = run("submit", "1", "--wait", "--timeout", "0.2")
    assert ran.exit_code == 5
    assert "it goes on" in ran.stderr
    client.resume()
    assert items_of(client, ran.stdout) == [1]


def test_the_plan_is_told_and_nothing_stored(run: Run, client: IngestClient) -> None:
    ran = run("submit", "1-10", "--dry-run")
    assert ran.stdout.startswith("10 items in 4 batches of 3: starts ")
    assert list(client.ingestions()) == []


def test_json_is_what_the_api_answers(run: Run) -> None:
    ran = run("submit", "1", "--json")
    assert list(json.loads(ran.stdout)) == ["ingestion_id"]


def test_with_once_a_replay_is_said(run: Run) -> None:
    first, second = run("submit", "1", "2", "--once"), run("submit", "1", "2", "--once")
    assert ids_in(first.stdout) == ids_in(second.stdout)
    assert "Already accepted" not in first.output
    assert second.stdout.startswith("Already accepted at ")
    assert "nothing new was queued." in second.stdout


@pytest.mark.parametrize(
    ("status", "told"), [(400, False), (403, False), (413, False), (500, True)]
)
def test_what_was_refused_is_not_called_uncertain(run: Run, status: int, *, told: bool) -> None:
    """Then nothing was taken, and the same line would be refused again."""
    refusal = answer(status, {"detail": "No."})
    with Scripted(
        lambda request: refusal if request.method == "POST" else answer(200, {})
    ) as server:
        ran = run("submit", "1", "--url", f"http://127.0.0.1:{server.port}")
    assert ran.exit_code != 0
    assert ("can be submitted safely" in ran.stderr) == told


def test_a_refusal_after_an_attempt_of_unknown_fate_is_uncertain(run: Run) -> None:
    replies = iter((reset, answer(403, {"detail": "No."})))
    with Scripted(
        lambda request: next(replies) if request.method == "POST" else answer(200, {})
    ) as server:
        ran = run("submit", "1", "--url", f"http://127.0.0.1:{server.port}")
    assert "can be submitted safely" in ran.stderr


def test_when_the_connection_breaks_for_good_the_line_to_repeat_is_printed(
    run: Run, client: IngestClient
) -> None:
    """Which is then accepted once, however often it is repeated."""
    with Scripted(lambda request: reset if request.method == "POST" else answer(200, {})) as server:
        ran = run("submit", "1", "2", "--url", f"http://127.0.0.1:{server.port}")
    assert ran.exit_code == 3
    words = shlex.split(ran.stderr.splitlines()[1])
    assert words[:4] == ["ingest-service", "submit", "--key", server.requests[-1].key]
    assert words[4:6] == ["1", "2"]

    again = words[1:6]
    assert len({ids_in(run(*again).stdout)[0] for _ in range(2)}) == 1
    assert len(list(client.ingestions())) == 1


ODD = [
    b"two words", b"it's", b'"quoted"', b"a\nb\tc", b"\xff\xfe7", b"\x1b[31m", b"\x7f0", b"-f",
    b"\\n $HOME !x `y`", "k\xe4se".encode(), "\u202eexe.txt \U0001f600".encode(),
]  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_the_line_to_repeat_can_be_pasted_whatever_the_file_is_called(
    tmp_path: Path, name: bytes, encoding: str
) -> None:
    """Into bash; it is one line, and a terminal shows all of it."""
    path = os.fsencode(tmp_path) + b"/" + name
    Path(os.fsdecode(path)).write_text("1\n")
    with Scripted(lambda request: reset if request.method == "POST" else answer(200, {})) as server:
        url = f"http://127.0.0.1:{server.port}"
        ran = subprocess.run(  # noqa: S603
            [sys.executable, "-c", IMPATIENT, "submit", "-f", path, "--url", url],
            env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": ROOT},
            capture_output=True, timeout=20, check=False,
        )  # fmt: skip
    assert ran.returncode == 3
    line = ran.stderr.splitlines()[1]
    assert line.decode(encoding).isprintable()
    words = subprocess.run(  # noqa: S603
        [b"bash", b"-c", line.replace(b"ingest-service", b"printf '%s\\0'", 1)],
        capture_output=True, timeout=20, check=True,
    ).stdout.split(b"\0")  # fmt: skip
    assert [words[0], *words[3:-1]] == [b"submit", b"-f", path, b"--url", url.encode()]


def test_what_is_wrong_after_something_was_accepted_does_not_lose_its_key(tmp_path: Path) -> None:
    """The line that is mended later goes on where this one ended, and begins with the key."""
    path = tmp_path / "ids"
    path.write_text("1\n2\n3\nbad\n")
    with listening(max_items=2) as url, IngestClient(url) as client:
        ran = run_at(url)("submit", "--priority", "LOW", "-f", str(path))
        assert ran.exit_code == 2
        words = shlex.split(ran.stderr.splitlines()[1])
        assert words[1:3] == ["submit", "--key"]
        path.write_text("1\n2\n3\n4\n")
        again = run_at(url)(*words[1:])
        assert again.exit_code == 0
        assert ids_in(again.stdout)[0] == ids_in(ran.stdout)[0]
        assert len(list(client.ingestions())) == 2


def test_hanging_up_while_nobody_has_answered_tells_the_key(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang_up(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(IngestClient, "submit_parts", hang_up)
    ran = run("submit", "1", "--", "2")
    assert ran.exit_code == 130
    assert shlex.split(ran.stderr.splitlines()[1])[1:3] == ["submit", "--key"]


def test_a_replay_is_said_by_a_key_that_may_not_look() -> None:
    taken = answer(200, {"ingestion_id": "i"}, Idempotency_Replayed="true")
    refused, others = answer(403, {"detail": "No."}), answer(200, {})
    with Scripted(
        lambda request: (
            taken
            if request.method == "POST"
            else (refused if "/status" in request.target else others)
        )
    ) as server:
        ran = run_at(f"http://127.0.0.1:{server.port}")("submit", "1", "--once")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.startswith("Already accepted, nothing new was queued.")


@pytest.mark.parametrize("name", ["", "none/out.csv", "x" * 255], ids=["folder", "none", "long"])
def test_where_results_cannot_be_written_nothing_is_submitted(
    run: Run, client: IngestClient, tmp_path: Path, name: str
) -> None:
    ran = run("submit", "1", "--results", f"{tmp_path}/{name}")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "Error: " in ran.stderr
    assert list(client.ingestions()) == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_fetched_of_what_was_not_waited_for(
    run: Run, client: IngestClient, tmp_path: Path
) -> None:
    """The file would not be complete, and look as if it were."""
    client.pause("tests")
    out = tmp_path / "out.csv"
    ran = run("submit", "1", "--timeout", "0.2", "--results", str(out))
    assert ran.exit_code == 5
    assert not out.exists()
