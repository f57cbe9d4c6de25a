"""SQL in files of its own: what each must say, and that a wrong placeholder doesn't compile."""

import re
import subprocess

import pytest

from paths import ROOT

FILES = sorted(ROOT.glob("lib/*/sql/*.sql"))
PLACEHOLDER = re.compile(r"\{[a-z_]+\}")


def test_there_are_sql_files():
    assert len(FILES) > 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_comment_says_what_it_does_its_locks_and_each_placeholder(path):
    comment, body = re.fullmatch(r"((?:--[^\n]*\n)+)(.*)", path.read_text(), re.S).groups()
    assert re.match(r"-- \w", comment) and re.search(r"^-- Locks: ", comment, re.M)
    assert set(PLACEHOLDER.findall(body)) == set(PLACEHOLDER.findall(comment))


def test_each_is_filled_in_somewhere():
    code = "".join(path.read_text() for path in sorted(ROOT.glob("lib/*/*.cpp")))
    assert not [path.name for path in FILES if f"<sql::{path.stem}>" not in code]


def test_sql_of_twenty_lines_is_not_in_the_code():
    found = [f"{path.name}: {text[:40]!r}" for path in sorted(ROOT.glob("lib/*/*.?pp"))
             for text in re.findall(r'R"\w*\((.*?)\)\w*"', path.read_text(), re.S)
             if len(text.strip().splitlines()) > 20]
    assert not found, found


def literals(text):
    """Those without an E, by the server's rules for comments, names and strings."""
    tokens = r"""--[^\n]*|/\*.*?\*/|"[^"]*"|\b[eE]'(?:[^'\\]|\\.|'')*'|'((?:[^']|'')*)'"""
    return [found[1] for found in re.finditer(tokens, text, re.S) if found[1]]


def test_no_plain_literal_has_a_backslash():
    """Which is another string where standard_conforming_strings is off; a server reads a whole message by what that was
    before it."""
    assert literals(r"SELECT 'a\b', E'c\'d' -- 'e\f'") == [r"a\b"]
    texts = [(path.name, path.read_text()) for path in FILES]
    texts += [(path.name, text) for path in sorted(ROOT.glob("lib/*/*.?pp"))
              for text in re.findall(r'R"\w*\((.*?)\)\w*"', path.read_text(), re.S)]
    found = [f"{name}: {literal}" for name, text in texts for literal in literals(text)
             if "\\" in literal]
    assert not found, found


def test_both_deletions_catch_the_same_errors():
    """The program's, and that of the function in roles.sql, which has the list for itself."""
    def conditions(text):
        listed = re.search(r"integrity_constraint_violation[^;]*?program_limit_exceeded", text.replace('"', ""))[0]
        return set(listed.split()) - {"OR"}
    assert conditions((ROOT / "lib/cleanup/as_owner.cpp").read_text().split("kQuotesValuesOfSessions =")[1]) \
        == conditions((ROOT / "conf.d/roles.sql").read_text())


def compiled(arguments):
    """What the compiler says of a text with the one placeholder {oid}."""
    code = f"""
        #include "core/sql_text.hpp"
        namespace sql = django_session::sql;
        constexpr std::string_view kText = "SELECT {{oid}}";
        std::string text() {{ return sql::fill<kText>({arguments}); }}"""
    return subprocess.run(["c++", "-std=c++20", "-fsyntax-only", f"-I{ROOT / 'lib'}", "-x", "c++", "-"], input=code,
                          capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments, name, what", [
    ("", "oid", "no argument"),
    ('sql::arg<"oid">(1), sql::arg<"table">("t")', "table", "no {placeholder}"),
    ('sql::arg<"iod">(1)', "iod", "no {placeholder}"),
])
def test_a_wrong_placeholder_does_not_compile_and_the_compiler_names_it(arguments, name, what):
    answer = compiled(arguments)
    assert answer.returncode != 0
    assert f'"{name}"' in answer.stderr and what in answer.stderr, answer.stderr


def test_the_right_one_compiles():
    answer = compiled('sql::arg<"oid">(1)')
    assert answer.returncode == 0, answer.stderr
