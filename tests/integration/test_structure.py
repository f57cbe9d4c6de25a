"""Keeps the house in order: what includes what, what is exported, and that samples, README and
code name the same options."""

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import manual_pages
from cpp_functions import functions
from manual_pages import PAGES
from paths import CHECK, CLEANUP, COLLECTD_SAMPLE, PLUGIN, ROOT
from processes import program
from vocabulary import VALUES

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


def test_the_defects_to_be_planted_fit_into_the_code():
    subprocess.run([ROOT / "tests" / "defects.py", "--check"], check=True)


def types():
    """Each type at a namespace's scope: (namespace, name, file); "" is an unnamed namespace."""
    for path in SOURCES:
        spaces = []
        for line in path.read_text().splitlines():
            if opened := re.match(r"namespace ?([\w:]*) \{$", line):
                spaces.append(opened[1])
            elif line.startswith("}  // namespace"):
                spaces.pop()
            elif defined := re.match(r"(?:struct|class|enum class|enum|union) (?:[A-Z_]+\(.*\) )?(\w+)\b(?![\w:;])", line):
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


def test_an_edited_configuration_is_kept_by_an_installation(tmp_path):
    subprocess.run(["cmake", "-S", ROOT, "-B", tmp_path / "build", "-DDJANGO_SESSION_TESTS=OFF"], check=True,
                   stdout=subprocess.DEVNULL)
    for _ in range(2):
        subprocess.run(["cmake", "--install", tmp_path / "build", "--component", "conf.d"], check=True,
                       stdout=subprocess.DEVNULL, env={**os.environ, "DESTDIR": str(tmp_path / "root")})
        installed = [path for path in (tmp_path / "root").rglob("*") if path.is_file()]
        for path in installed:
            path.write_text(path.read_text() + "# edited\n")
    assert sorted(path.name for path in installed) == [
        "django_session.conf", "django_session_service.cfg", "django_session_service.conf"]
    assert all(path.read_text().endswith("# edited\n# edited\n") for path in installed)


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


def imported_by(path):
    """The first part of each module's name that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0]


def needed_by(path, folders, seen):
    """Modules that are neither Python's nor in the folders: those of Debian's packages."""
    seen.add(path)
    for module in imported_by(path):
        own = next((folder / f"{module}.py" for folder in folders if (folder / f"{module}.py").exists()), None)
        if own and own not in seen:
            yield from needed_by(own, folders, seen)
        elif not own and module not in sys.stdlib_module_names:
            yield module


def installed_with(*groups):
    text = (ROOT / "tests" / "install_packages").read_text()
    return {package for group in groups for package in re.search(rf"^{group}=\((.*?)\)", text, re.M | re.S)[1].split()}


@pytest.mark.parametrize("folder, programs, groups", [
    ("tests", ["demo.py", "defects.py"], ["build", "demo"]),
    ("tests/packages", ["*.py"], ["build", "packaging"]),
    ("tests/integration", ["*.py"], ["build", "demo", "tests"]),
    ("tests/bench", ["*.py"], ["build", "demo", "tests", "bench"])])
def test_what_is_imported_is_installed(folder, programs, groups):
    """By what is installed for it alone: on a machine that has more, nothing would show that it is missing."""
    folders = [ROOT / folder, ROOT / "tests" / "integration"]
    files = [path for pattern in programs for path in (ROOT / folder).glob(pattern)]
    modules = {module for path in files for module in needed_by(path, folders, set())}
    assert files and not {f"python3-{module}" for module in modules} - installed_with(*groups), modules


def lines_of_collectd(text):
    """A configuration's lines, those of options behind '#' too; without explanations (`# ...`)."""
    lines = (re.sub(r"\s+# .*$", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line and not re.match(r"# |#$", line)]


def code_blocks(text):
    return re.findall(r"^```[^\n]*\n(.*?)^```", text, re.M | re.S)


def readme_block():
    """The README's block of collectd configuration."""
    found = [block for block in code_blocks(README.read_text())
             if "<Plugin django_session>" in block]
    assert len(found) == 1, f"{len(found)} blocks with <Plugin django_session> in README.md"
    return found[0]


def test_the_readme_shows_a_short_part_of_the_configuration_that_conf_d_has():
    shown, sample = lines_of_collectd(readme_block()), lines_of_collectd(COLLECTD_SAMPLE.read_text())
    assert 5 <= len(shown) <= 12
    rest = iter(sample)
    missing = [line for line in shown if line not in rest]  # `in` moves on: the order counts
    assert not missing, missing


def test_the_readme_is_short_enough_to_be_read():
    assert len(README.read_text().split()) <= 2500


def test_the_readme_shows_a_line_that_the_check_prints():
    shown, = [block.strip() for block in code_blocks(README.read_text())
              if block.startswith("DJANGO_SESSION")]
    tested = (ROOT / "tests" / "unit" / "check_report_test.cpp").read_text()
    assert f'"{shown}"' in re.sub(r'"\s*\n\s*"', "", tested)


def test_the_readme_shows_lines_of_the_benchmark(monkeypatch):
    """Pasted from what it prints: the same columns, ways and units."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "bench")
    ways, setting = importlib.import_module("cleanup_ways"), importlib.import_module("setting")
    head, rule = setting.Table("", ways.HEAD, []).lines()
    shown = rows_of(README.read_text(), f"{head}\n{rule}\n")
    assert [row[0] for row in shown] == ["swap", "clearsessions, then VACUUM FULL"]
    assert {row[0] for row in shown} <= {way.replace("`", "") for way in ways.WAYS}
    units = {"s": 1, "MB": setting.MB, "GB": setting.GB}
    for _, takes, wal, wait in shown:
        for cell, as_printed in ((takes, setting.duration), (wal, setting.size), (wait, setting.duration)):
            number, unit = cell.split()
            assert as_printed(float(number) * units[unit]) == cell


def test_the_benchmark_judges_a_choice_by_the_rule_of_the_readme(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "bench")
    growth, cost = importlib.import_module("growth"), importlib.import_module("setting").Cost
    worth, share = f"{growth.WORTH_A_SWAP // growth.MB} MB", f"{100 * growth.MOST_REWRITTEN:.0f} %"
    assert f"({worth} that a deletion would not give back, at most {share} of the bytes to rewrite)" in README.read_text()

    def verdict(chosen, swapped, deleted):
        """Of a table of 1000 MB: what is left of it."""
        return growth.verdict(chosen, *(cost(1, 0, 1000 * growth.MB, left * growth.MB)
                                        for left in (swapped, deleted)))
    assert verdict("swap", 30, 900) == "right" and verdict("delete", 30, 900) == "wrong"
    assert verdict("delete", 500, 900) == "right" and verdict("swap", 500, 900) == "wrong"  # much to rewrite
    assert verdict("delete", 300, 340) == "right" and verdict("swap", 300, 340) == "wrong"  # little to gain
    assert verdict("swap", 390, 900) == verdict("delete", 390, 900) == "right"  # near a limit


def rows_of(text, header):
    """The cells of the table that begins with this header."""
    table = text[text.index(header):].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip().replace("`", "") for cell in re.findall(r"\|([^|]*)(?=\|)", row)]
            for row in table]


def test_the_readme_explains_every_value_as_the_code_does():
    assert len(VALUES) > 20
    assert rows_of(README.read_text(), "| metric |") == [
        [value.metric, value.unit, value.meaning, value.collectd] for value in VALUES]


def help_of(executable):
    return subprocess.run([executable, "--help"], check=False, capture_output=True, text=True).stdout


def test_the_checks_help_explains_every_metric():
    text = help_of(CHECK)
    for value in VALUES:
        assert not value.metric or re.search(
            rf"^  {value.metric} +{re.escape(value.meaning)}, for example", text, re.M), value


OPTION = r"(?<![\w-])(--[a-z][a-z-]+|-[a-zA-Z])(?![\w-])"


@pytest.mark.parametrize("executable", [CHECK, CLEANUP], ids=lambda path: path.name)
def test_help_and_manual_page_have_the_same_options(executable):
    options = re.findall(r"^ +((?:-\w,)?--[\w-]+|-\w)\b", help_of(executable), re.M)
    found = set(re.findall(OPTION, " ".join(options).replace(",", " ")))
    assert len(found) > 15
    shown = re.findall(r"^\.It (Fl .*)$", manual_pages.part(PAGES[f"{executable.name}.1"], ".Sh OPTIONS"), re.M)
    assert found == {f"-{option}" for option in re.findall(r"Fl (\S+)", " ".join(shown))}


def test_manual_pages_are_clean_and_refer_to_each_other():
    assert len(PAGES) == 4
    for page in PAGES.values():
        assert not manual_pages.lint(page)
        assert set(manual_pages.references(page)) - {"collectd.conf.5"} <= PAGES.keys()
        assert f"install_manual_page({page.name} " in (page.parent / "CMakeLists.txt").read_text()


def test_manual_pages_explain_every_metric_and_value():
    check, plugin = (PAGES[page].read_text() for page in ("check_django_session.1", "collectd-django_session.5"))
    for value in VALUES:
        meaning = value.meaning.replace("`", "")
        assert not value.metric or f"\n.It Cm {value.metric}\n{meaning}\n" in check, value
        assert f"\n.It Cm {value.collectd}\n{meaning} ({value.unit})\n" in plugin, value


def test_links_between_documents_lead_somewhere():
    documents = [path for path in files_of_the_repository() if path.suffix == ".md"]
    for document in documents:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text()):
            file = document.parent / target if target else document
            assert file.exists(), f"{name(document)}: {target}"
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.M) if anchor else []
            assert not anchor or anchor in [
                re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]


def options_in_code(files="*settings.cpp"):
    """The option names of the tables in plugin/settings.cpp and its like."""
    return [option for path in sorted((ROOT / "plugin").glob(files))
            for option in re.findall(r'\{"([A-Z]\w*)",\s*\[', path.read_text())]


def test_the_options_are_found_in_the_code():
    assert {"Host", "Port", "User", "Password", "SSLMode", "Service", "Instance", "Interval",
            "PassFile", "Table", "Timeout", "Exact", "Read"} <= set(options_in_code())


def test_every_option_is_explained():
    text = COLLECTD_SAMPLE.read_text()
    missing = [option for option in options_in_code() if not re.search(rf"\b{option}\b", text)]
    assert not missing, f"{COLLECTD_SAMPLE.name} doesn't explain {missing}"


@pytest.mark.parametrize("blocks, files", [
    ([".Ss Of the plugin", ".Ss Of <Database>"], "settings.cpp"), ([".Ss Of <Cleanup>"], "cleanup_settings.cpp")])
def test_the_manual_page_has_every_option_of_the_plugin(blocks, files):
    text = "".join(manual_pages.part(PAGES["collectd-django_session.5"], block) for block in blocks)
    assert set(re.findall(r"^\.It Cm (?:<(?=Cleanup))?(\w+)", text, re.M)) == set(options_in_code(files))


PACKAGES = ROOT / "cmake" / "packages.cmake"


def test_the_packages_are_made_of_what_is_there():
    named = re.findall(r"\b(?:cmake|conf\.d)/[\w./@-]+", PACKAGES.read_text())
    assert len(named) > 5
    assert not [file for file in named if not (ROOT / file).exists()]


def test_the_packages_have_the_version_of_the_programs():
    version = re.search(r"^project\(\w+ VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(), re.M)[1]
    assert (ROOT / "cmake" / "debian" / "changelog").read_text().startswith(f"django-session ({version}-")


def test_a_package_leaves_collectd_as_it_was():
    """Its configuration is all commented out; without the marks it is the sample's beginning."""
    packaged = (ROOT / "cmake" / "debian" / "collectd" / "django_session.conf").read_text()
    assert all(line.startswith("#") for line in packaged.splitlines())
    shown = [line.removeprefix("#").strip() for line in packaged.rpartition("\n#\n")[2].splitlines()]
    lines = (line.strip() for line in COLLECTD_SAMPLE.read_text().splitlines())
    assert shown == [line for line in lines if line and not line.startswith("#")]


def test_names_in_nagios_say_what_belongs_to_the_check_and_what_to_the_command():
    for path in (ROOT / "nagios").glob("*.?pp"):
        used = " ".join(includes(path))
        for mine, other in (("check_", "cleanup_"), ("cleanup_", "check_")):
            assert not path.name.startswith(mine) or not re.search(rf"\b{other}\w+\.hpp", re.sub(
                r"(core|cleanup|measure)/\w+\.hpp", "", used)), name(path)
        if not path.name.startswith(("check_", "cleanup_")):
            assert not re.search(r"(?:^| )(check|cleanup)_\w+\.hpp", used), name(path)

# Phrases that read as translated, or name nobody.
STIFF = ["anew", "whoever", "whomever", "somebody", "anybody", "in vain", "is no more", "goes on",
         "go on", "going on", "is at work", "under way", "mend", "mends", "for ever", "once is right",
         "one of the two is right", "belongs into"]


def texts_that_people_read():
    """Code with its comments and messages, samples, documents; not the tests, which quote others."""
    samples = [path for path in sorted((ROOT / "conf.d").rglob("*")) if path.is_file() and path.suffix != ".png"]
    documents = [path for path in files_of_the_repository() if path.suffix in (".md", ".sql")]
    return sorted({*PAGES.values(), *SOURCES, *samples, *documents, ROOT / "tests" / "run", ROOT / "tests" / "demo"})


def words_not_to_use():
    """The last column of CONTRIBUTING.md's glossary."""
    rows = rows_of((ROOT / "CONTRIBUTING.md").read_text(), "| word | meaning | not |")
    assert len(rows) >= 10
    return [word for row in rows for word in row[-1].split(", ") if word]


def uses_of(words, text):
    pattern = re.compile(rf"(?<![\w-])({'|'.join(words)})(?![\w-])", re.I)
    return [f"{match[0]!r} in {text[max(0, match.start() - 30):match.end() + 30]!r}"
            for match in pattern.finditer(text)]


def test_nothing_is_said_in_stiff_words():
    found = {name(path): uses for path in texts_that_people_read()
             if (uses := uses_of(STIFF, path.read_text()))}
    assert not found, found


def prose_of(path):
    """Of code the comments, without what is code in them; of a document all but the glossary."""
    text = path.read_text().partition("\n## Words\n")[0]
    if path.suffix in (".hpp", ".cpp"):
        text = "\n".join(re.findall(r"//.*", text))
    return re.sub(r"`[^`]*`", "", text) if path.suffix != ".sql" else ""


def test_one_thing_has_one_word():
    refused = words_not_to_use()
    found = {name(path): uses for path in texts_that_people_read()
             if (uses := uses_of(refused, prose_of(path)))}
    assert not found, found
