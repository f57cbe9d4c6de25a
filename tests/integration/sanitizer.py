"""What programs under test need in their environment when the build has a sanitizer in it."""

import atexit
import functools
import os
import subprocess
import tempfile

from paths import BUILD

# Exit codes of their own: a report must not look like a WARNING (1).
OPTIONS = {
    "ASAN_OPTIONS": "exitcode=99:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "exitcode=99:print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=0:second_deadlock_stack=1",
}
# collectd itself leaves memory behind at its end (and loads plugins that do).
FOR_COLLECTD = {"ASAN_OPTIONS": OPTIONS["ASAN_OPTIONS"] + ":detect_leaks=0"}
# The signal handler of collectd's exec plugin doesn't keep errno.
SUPPRESSED_IN_COLLECTD = "signal:exec.so\n"
REPORT = ("AddressSanitizer", "LeakSanitizer", "ThreadSanitizer", "runtime error:")


@functools.cache
def name():
    """asan, tsan or None, as the build's flags say."""
    cache = BUILD / "CMakeCache.txt"
    text = cache.read_text() if cache.exists() else ""
    if "-fsanitize=address" in text:
        return "asan"
    return "tsan" if "-fsanitize=thread" in text else None


def environment():
    """For a program that was built with the sanitizer."""
    return dict(OPTIONS) if name() else {}


@functools.cache
def _runtime():
    """The sanitizer's library, and the one that it has to find exceptions in, which collectd is without
    until it has loaded the plugin."""
    libraries = (f"lib{name()}.so", "libstdc++.so.6")
    return ":".join(subprocess.check_output(["g++", f"-print-file-name={library}"], text=True).strip()
                    for library in libraries)


def command_prefix():
    """For a program that loads a shared object built with the sanitizer."""
    return ["env", f"LD_PRELOAD={_runtime()}"] if name() else []


@functools.cache
def _suppressions():
    """The path of a file that the ordinary user can read."""
    file = tempfile.NamedTemporaryFile("w", dir=os.environ.get("DJANGO_SESSION_TMP"), delete=False)
    with file:
        file.write(SUPPRESSED_IN_COLLECTD)
    os.chmod(file.name, 0o644)
    atexit.register(os.unlink, file.name)
    return file.name


def environment_of_collectd():
    if not name():
        return {}
    suppress = {"TSAN_OPTIONS": f"{OPTIONS['TSAN_OPTIONS']}:suppressions={_suppressions()}"
                                ":atexit_sleep_ms=0"}
    return {**OPTIONS, **FOR_COLLECTD, **suppress}


def reports(text):
    """The lines of a text in which a sanitizer reports something."""
    return [line for line in text.splitlines() if any(word in line for word in REPORT)]
