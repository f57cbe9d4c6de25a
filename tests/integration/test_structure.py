"""Keeps the house in order: what includes what, what is exported, and that samples, README and
code name the same options."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from cpp_functions import functions
from paths import COLLECTD_SAMPLE, PLUGIN, ROOT
from processes import program

SOURCES = [path for folder in ("lib", "plugin", "nagios")
           for path in sorted((ROOT / folder).rglob("*")) if path.suffix in (".hpp", ".cpp")]
SQL = sorted((ROOT / "lib").rglob("*.sql"))
README = ROOT / "README.md"


def name(path):
    return path.relative_to(ROOT).as_posix()


def includes(path):
    return re.findall(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', path.read_text(), re.M)


def files_including(pattern):
    return [name(path) for path in SOURCES
            if any(re.match(pattern, header) for header in includes(path))]


def test_there_are_sources():
    assert len(SOURCES) > 20


def types():
    """Each type at a namespace's scope: (namespace, name, file); "" is an unnamed namespace."""
    for path in SOURCES:
        spaces = []
        for line in path.read_text().splitlines():
            if opened := re.match(r"namespace ?([\w:]*) \{$", line):
                spaces.append(opened[1])
            elif line.startswith("}  // namespace"):
                spaces.pop()
            elif defined := re.match(r"(?:struct|class|enum class|enum|union) (\w+)\b(?![\w:;])", line):
                yield tuple(spaces), defined[1], name(path)


def test_no_two_types_share_a_name():
    """Of one namespace, the linker would take one for the other; an inner one hides the outer one, so
    that an #include decides which is meant."""
    places = {}
    for spaces, type_name, path in types():
        if "" not in spaces:
            places.setdefault((*spaces, type_name), []).append(path)
    assert len(places) > 50
    assert not {key: found for key, found in places.items() if len(found) > 1}
    hidden = [(spaces, type_name, path) for spaces, type_name, path in types()
              if spaces != ("django_session",) and ("django_session", type_name) in places]
    assert not hidden, hidden


def test_libpq_is_included_under_lib_pg_alone():
    found = files_including(r"(.*/)?(libpq|postgres)")
    assert found and all(path.startswith("lib/pg/") for path in found), found


def test_collectd_is_included_by_the_plugins_module_alone():
    assert files_including(r"(collectd|liboconfig|.*/?daemon/|plugin\.h$|.*utils/common)") == [
        "plugin/module.cpp"]


def test_the_core_knows_neither_servers_nor_session_tables():
    found = files_including(r"(\.\./)?(pg|measure|cleanup)/")
    assert not [path for path in found if path.startswith("lib/core/")], found


def test_pg_knows_no_session_tables():
    found = files_including(r"(\.\./)?(measure|cleanup)/")
    assert not [path for path in found if path.startswith("lib/pg/")], found


def test_measuring_knows_no_cleaning():
    found = files_including(r"(\.\./)?cleanup/")
    assert found and not [path for path in found if path.startswith("lib/measure/")], found


def test_the_library_reads_no_command_line():
    found = files_including(r"CLI/")
    assert not [path for path in found if not path.startswith("nagios/")], found


def test_the_library_knows_none_of_its_users():
    found = files_including(r"(\.\./)*(plugin|nagios)/")
    assert not [path for path in found if path.startswith("lib/")], found


def test_every_source_file_opens_with_what_lives_there():
    assert not [name(path) for path in SOURCES if not path.read_text().startswith("//")]


MOST_PARAMETERS = 5


def test_parameters_are_counted():
    source = """
        /// A comment, with (int a, int b, int c, int d, int e, int f).
        std::string five(pg::Connection& a, const std::map<int, int>& b, std::vector<int> c,
                         const std::function<void(int, int)>& d = {}, int* e);
        void six(Deadline a, int b, const char* c, double d, Row&& e, std::string f = "x, y") {
          five(a, b(), c + 1, {d, e}, "a b, c d", f);
          [&](int a, int b, int c, int d, int e, int g) { return a; };
        }"""
    assert list(functions(source)) == [("five", 5), ("six", 6), ("a lambda", 6)]


def test_no_function_takes_more_than_five_parameters():
    found = [f"{name(path)}: {function} takes {count}" for path in SOURCES
             for function, count in functions(path.read_text()) if count > MOST_PARAMETERS]
    assert not found, found


def test_who_reads_an_answer_bit_by_bit():
    """All others send a message and get all of its answer: Connection::run()."""
    readers = [name(path) for path in SOURCES if "next_rows(" in path.read_text()]
    assert readers == ["lib/cleanup/long_statement.cpp", "lib/measure/probe.cpp",
                       "lib/pg/connection.cpp", "lib/pg/connection.hpp"]


def test_every_transaction_begins_with_the_one_text():
    begins = [name(path) for path in SOURCES + SQL
              if re.search(r"^\s*BEGIN( ISOLATION| TRANSACTION| WORK| READ|;)|\bSTART TRANSACTION\b",
                           path.read_text(), re.M)]
    assert begins == ["lib/measure/transaction.cpp"]


def test_how_long_a_cleanup_waits_is_in_one_table():
    """Where an operator looks for it: lib/cleanup/patience.hpp. Durations elsewhere have no names."""
    constant = re.compile(r"^(?:inline )?constexpr (?:std::chrono::)?"
                          r"(?:milliseconds|seconds|minutes|hours) k", re.M)
    found = [name(path) for path in SOURCES
             if name(path).startswith("lib/cleanup/") and constant.search(path.read_text())]
    assert found == ["lib/cleanup/patience.hpp"]


def test_the_module_exports_its_registration_alone():
    table = subprocess.check_output(["nm", "-D", "--defined-only", PLUGIN], text=True)
    # A sanitizer's marks (__asan..., __odr_asan...) and gcov's are not ours.
    symbols = [line.split()[-1] for line in table.splitlines()]
    ours = [symbol for symbol in symbols if not re.match(r"__|.*gcov|mangle_path", symbol)]
    assert ours == ["module_register"]


def test_installed_below_usr_the_plugin_lies_where_collectd_looks(tmp_path):
    """For a fresh configuration, as README.md has it; what is built here may have an older one."""
    subprocess.run(["cmake", "-S", ROOT, "-B", tmp_path, "-DDJANGO_SESSION_TESTS=OFF",
                    "-DCMAKE_INSTALL_PREFIX=/usr"], check=True, stdout=subprocess.DEVNULL)
    cache = (tmp_path / "CMakeCache.txt").read_text()
    folder = re.search(r"^COLLECTD_PLUGIN_DIR:\w+=(.*)$", cache, re.M).group(1)
    built_in = re.findall(rb"/usr/lib[\w/.-]*/collectd(?=\0)",
                          Path(program("collectd")).read_bytes())
    assert f"/usr/{folder}".encode() in built_in, built_in


def test_threads_share_only_what_a_checked_mutex_guards():
    unchecked = r"std::\w*(mutex|condition_variable|_lock|lock_guard)\b"
    assert [name(path) for path in SOURCES if re.search(unchecked, path.read_text())] == [
        "lib/core/mutex.hpp"]


@pytest.fixture(scope="module")
def checked_by_clang(tmp_path_factory):
    """{file: the words before its name}: how the preset `locks` has clang look at it."""
    folder = tmp_path_factory.mktemp("locks")
    subprocess.run(["cmake", "--preset", "locks", "-B", folder], cwd=ROOT, check=True,
                   stdout=subprocess.DEVNULL)
    commands = json.loads((folder / "compile_commands.json").read_text())
    return {name(Path(entry["file"])): shlex.split(entry["command"].partition(" -o ")[0])
            for entry in commands if "-Wthread-safety" in entry["command"]}


def test_clang_looks_at_every_file_that_takes_a_lock(checked_by_clang):
    assert {name(path) for path in SOURCES if path.suffix == ".cpp"
            and re.search(r"\bLock \w+\(", path.read_text())} <= checked_by_clang.keys()


@pytest.mark.parametrize("path, compiled", [
    ("plugin/worker.cpp", None), ("plugin/reading_pool.cpp", None),
    ("lib/pg/bounded_call.hpp", "lib/pg/connection.cpp")])
def test_what_is_used_without_its_mutex_does_not_compile(tmp_path, checked_by_clang, path, compiled):
    planted = tmp_path / path
    planted.parent.mkdir(parents=True)
    text, locks = re.subn(r"^ +const Lock \w+\(.*\n", "", (ROOT / path).read_text(), flags=re.M)
    assert locks
    planted.write_text(text)
    command = checked_by_clang[compiled or path]
    done = subprocess.run(
        [command[0], f"-I{tmp_path / 'lib'}", *command[1:], ROOT / compiled if compiled else planted],
        capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "requires holding mutex" in done.stderr, done.stderr


def files_of_the_repository():
    made = {"build", ".git", "__pycache__", ".pytest_cache"}
    return [path for path in sorted(ROOT.rglob("*"))
            if path.is_file() and not made.intersection(path.relative_to(ROOT).parts)]


def test_no_file_names_a_place_of_the_machine_it_was_written_on():
    # Put together here, so that this file isn't found itself.
    places = re.compile("/" + r"(work|home/\w+|root)" + "/|" + r"\bshared" + "/(?!buffers)")
    found = [f"{name(path)}: {match.group()}" for path in files_of_the_repository()
             for match in places.finditer(path.read_text(errors="replace"))]
    assert not found, found


def lines_of_collectd(text):
    """A configuration's lines, those of options behind '#' too; without explanations (`# ...`)."""
    lines = (re.sub(r"\s+# .*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line and not re.match(r"# |#$", line)]


def readme_block():
    """The README's block of collectd configuration."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", README.read_text(), re.M | re.S)
    found = [block for block in blocks if "<Plugin django_session>" in block]
    assert len(found) == 1, f"{len(found)} blocks with <Plugin django_session> in README.md"
    return found[0]


def test_the_readme_shows_the_configuration_that_conf_d_has():
    assert lines_of_collectd(readme_block()) == lines_of_collectd(
        COLLECTD_SAMPLE.read_text())


def options_in_code():
    """The option names of the tables in plugin/settings.cpp and its like."""
    return [option for path in sorted((ROOT / "plugin").glob("*settings.cpp"))
            for option in re.findall(r'\{"([A-Z]\w*)",\s*\[', path.read_text())]


def test_the_options_are_found_in_the_code():
    assert {"Host", "Port", "User", "Password", "SSLMode", "Service", "Instance", "Interval",
            "PassFile", "Table", "Timeout", "Exact", "Read"} <= set(options_in_code())


@pytest.mark.parametrize("document", [COLLECTD_SAMPLE, README], ids=lambda path: path.name)
def test_every_option_is_explained(document):
    text = document.read_text()
    missing = [option for option in options_in_code() if not re.search(rf"\b{option}\b", text)]
    assert not missing, f"{document.name} doesn't tell of {missing}"
