"""Threads for calls that wait; some of them may never come back."""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Task = Callable[[], None]


@dataclass(eq=False, slots=True)
class _Job:
    task: Task
    #: When it is given up (monotonic).
    deadline: float


class Pool:
    """At most `size` daemon threads, started when they are needed.

    Not `concurrent.futures`: the end of the process would wait for its threads,
    and a connector may never return.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._threads = 0
        self._jobs: set[_Job] = set()

    def submit(self, tasks: Sequence[Task], deadline: float) -> bool:
        """Run all `tasks` at the same time; return False, without running any, if too many run.

        Raise `RuntimeError` if the machine refuses to start a thread.
        """
        jobs = [_Job(task, deadline) for task in tasks]
        with self._lock:
            needed = len(self._jobs) + len(jobs)
            if needed > self.size:
                return False
            # Threads first: the machine may refuse to start one.
            while self._threads < needed:
                threading.Thread(target=self._work, name="upstream", daemon=True).start()
                self._threads += 1
            self._jobs.update(jobs)
        for job in jobs:
            self._queue.put(job)
        return True

    def overdue(self, now: float) -> int:
        """Return how many tasks run although they were given up before `now`."""
        with self._lock:
            return sum(job.deadline < now for job in self._jobs)

    def _work(self) -> None:
        try:
            while True:
                job = self._queue.get()
                try:
                    job.task()
                finally:
                    with self._lock:
                        self._jobs.remove(job)
                # A finished task can hold a large answer until the next one comes.
                del job
        finally:
            # Whatever has ended it: another one is started in its place.
            with self._lock:
                self._threads -= 1
