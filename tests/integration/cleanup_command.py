"""Runs django_session_cleanup to its end, or in the background, and takes its summary apart."""

import contextlib
import subprocess
import time
from dataclasses import dataclass, field

import sanitizer
from check import parse_perfdata
from processes import PLAIN_ENVIRONMENT, ordinary

DONE, STOPPED, FAILED, REFUSED = 0, 1, 2, 3
CLEANER = "django_session_cleaner"
SWAPPER = "django_session_swapper"


@dataclass
class Result:
    """Exit code, both outputs, and of the summary line its word (DONE...), text and perfdata."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    word: str = ""
    message: str = ""
    perfdata: dict = field(default_factory=dict)

    @property
    def deleted(self):
        return self.perfdata["deleted"][0]

    def __str__(self):
        return f"exit {self.code} after {self.seconds:.1f} s\n{self.stdout}\n{self.stderr}"


class Cleanup:
    """One running django_session_cleanup."""

    started = []  # by the test that is running

    def __init__(self, program, *options, environment=None):
        self._words = options
        self._start = time.monotonic()
        self._process = subprocess.Popen(
            ordinary([program, *options]), cwd="/", text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**PLAIN_ENVIRONMENT, **sanitizer.environment(), **(environment or {})})
        Cleanup.started.append(self)

    @classmethod
    def end_all(cls):
        """Ends what a test has left running; returns the options of each."""
        left = [cleanup for cleanup in cls.started if cleanup._outlives(seconds=1)]
        for cleanup in left:
            cleanup._process.kill()
            cleanup._process.communicate()
        cls.started.clear()
        return [cleanup._words for cleanup in left]

    def _outlives(self, seconds):
        """A signal that was just sent takes a moment."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self.running

    @property
    def running(self):
        return self._process.poll() is None

    def send(self, number):
        self._process.send_signal(number)

    def result(self, timeout=120):
        """Waits for its end."""
        try:
            stdout, stderr = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"the cleanup didn't end within {timeout} s") from None
        result = Result(self._process.returncode, stdout, stderr, time.monotonic() - self._start)
        found = sanitizer.reports(stdout + stderr)
        assert not found, stdout + stderr
        lines = [line for line in stdout.splitlines() if line.startswith("DJANGO_SESSION_CLEANUP")]
        assert len(lines) <= 1, stdout
        if lines and "|" in lines[0]:
            text, _, perfdata = lines[0].partition("|")
            result.word, _, result.message = text.split(" ", 1)[1].strip().partition(" - ")
            result.perfdata = parse_perfdata(perfdata)
            assert result.message, stdout
        return result
