"""Random histories in which every process ends without a word, and others come."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import Phase
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from ingest_service.app import build, build_worker
from tests.lives import SETTINGS, Lives
from tests.postgres import StepInTurn, wipe

#: Seconds after which a worker that gives no sign of life is given up.
STALLED = 5


def test_whoever_ends_without_a_word_has_promised_for_all_who_come(database: str) -> None:
    settings = replace(SETTINGS, journal=database)

    class LivesOnPostgres(Lives):
        """A replica and two workers after the other on one database."""

        time: StepInTurn
        #: So that most of them end while something is under way.
        latency = 3.0

        def prepare(self) -> None:
            wipe(database)

        def boot(self) -> None:
            clock, upstream = self.clock, self.upstream
            self.parts = build(settings, clock=clock, upstream=upstream)
            self.workers = [
                build_worker(settings, lambda _, start: None, clock=clock, upstream=upstream)
                for _ in range(2)
            ]
            self.time = StepInTurn(self.frozen, self.clock, self.workers)

        def end(self) -> None:
            self.parts.close(0)
            for worker in self.workers:
                worker.database.close()

        @precondition(lambda self: self.restarts < 4)
        @rule(down=st.integers(0, 40), takes=st.booleans())
        def crash(self, down: int, takes: bool) -> None:
            """Maybe with a slot that was taken a moment ago."""
            self.restarts += 1
            if takes:
                self.workers[0].dispatch.take()
            lost = [batch.slot.number for batch in self.time.under_way]
            self.end()
            self.frozen.tick(timedelta(seconds=down / 4 + (STALLED if lost else 0)))
            self.boot()
            for start in lost:
                self.workers[0].dispatch.lose(start)

    # What fails is told as it is: to make it shorter takes minutes here.
    few = hypothesis_settings(
        max_examples=12, stateful_step_count=12, phases=[Phase.generate, Phase.reuse]
    )
    run_state_machine_as_test(LivesOnPostgres, settings=few)
