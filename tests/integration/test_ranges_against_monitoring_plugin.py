"""Ranges and perfdata against Debian's Monitoring::Plugin, verdict by verdict.

Both sides answer the same generated questions. They may differ only as DIFFERENCES says, each for its reason, and each
of these must occur, so that the list can't outlive what it describes.
"""

import random
import re
import subprocess
from pathlib import Path
from typing import Callable, NamedTuple

from paths import BUILD

OURS = BUILD / "tests" / "unit" / "range_oracle"
THEIRS = Path(__file__).with_name("monitoring_plugin_oracle.pl")
SEED = 20

EDGES = ["0", "1", "5", "10", "20", "100", "0.5", ".5", "5.", "2.25", "007", "99.99", "1000000", "4503599627370496"]
EDGES += ["-" + edge for edge in EDGES]
VALUES = ["-1000", "-5", "-0.5", "0", "0.5", "1", "4.99", "5", "7", "10", "15", "20", "20.01", "100", "1000000"]
BY_HAND = ["", "@", ":", "@:", "~", "@~", "~:", "@~:", "~5", "~5:10", "~:~", "5:~", ":5", "@:5", "5:5", "10:5", "@10:5",
           "1-10", "foo", "-5", "-5:-10", "-10:-5", "~:-1", "1:2:3", "::", "@@5", "5@", "--5", "0x10", "inf", "nan",
           "1e3", "1e400", "+5", "+1:+5", " 5", "1 : 5", "1.5.2", "5:.", ".", "-", "1,5", "1:12%%", "5%", "9" * 400]
NOISE = "@~:+-.eE 09x%,"
LABELS = ["total", "time", "index_a", "a.b-c/d", "two words", "été", "a=b", "o'clock", "a;b", "a|b"]


class Part(NamedTuple):
    """One thing to compare in the answers to a question."""

    kind: str  # verdict, label or number (value, warn, crit)
    asked: str
    ours: str
    theirs: str


class Difference(NamedTuple):
    reason: str
    kind: str
    asked: str  # pattern
    holds: Callable  # for our answer and theirs


def we_alone_refuse(ours, theirs):
    return ours == "refused" and theirs != "refused"


def we_alone_accept(ours, theirs):
    return ours != "refused" and theirs == "refused"


def whole(number):
    """Rounded as C's round() does, half away from zero."""
    return str(int(abs(float(number)) + 0.5) * (-1 if float(number) < 0 else 1))


def whole_range(text):
    text = re.sub(r"-?\d+(\.\d+)?", lambda number: whole(number[0]), text)
    return re.sub(r"^(@?)0:(?=.)", r"\1", text)


DIFFERENCES = {
    "blanks": Difference(
        "it drops blanks anywhere, so that `1 0` is 10: anything that isn't a range is refused here",
        "verdict", " ", we_alone_refuse),
    "exponents": Difference(
        "it reads 1e3 as 1000: quantities have no exponents",
        "verdict", "e", we_alone_refuse),
    "plus": Difference(
        "it reads +5 as 5: a quantity is a number, which may be negative, and no more",
        "verdict", r"\+", we_alone_refuse),
    "points": Difference(
        "it reads as far as it understands, `1.5.2` as 1.5 and `.` as 0, and ignores the rest silently",
        "verdict", r"\..*\.|(?<!\d)\.(?!\d)", we_alone_refuse),
    "overflow": Difference(
        "it takes a number that is too large for infinity",
        "verdict", r"\d{309}", we_alone_refuse),
    "units": Difference(
        "quantities may have units; it knows plain numbers only",
        "verdict", r"\d(kB|d|%)", we_alone_accept),
    "whole": Difference(
        "perfdata is whole bytes, rows and seconds",
        "number", r"\..*[^%]$", lambda ours, theirs: ours == whole_range(theirs)),
    "large": Difference(
        "it writes large numbers in scientific notation, which perfdata must not have",
        "number", r"\d{20}", lambda ours, theirs: "e+" in theirs and float(theirs) == int(ours)),
    "zero start": Difference(
        "it writes `0:` as nothing and `@0:` as `@`, neither of which it can read; only `0:x` is shortened",
        "number", r"^@?0: ", lambda ours, theirs: ours == theirs + "0:"),
    "labels": Difference(
        "it quotes labels for blanks only; Nagios wants it for quotes and `=` too, and `|` would end the text",
        "label", "[=';|]", lambda ours, theirs: re.fullmatch(r"'([^'|]|'')+'|[^ =';|]+", ours)),
}


def well_formed(chance):
    start = chance.choice(["", "", "~:", ":"] + [edge + ":" for edge in EDGES])
    end = chance.choice(EDGES + [""] * 4)
    return chance.choice(["", "", "@"]) + start + end


def damaged(chance):
    text = well_formed(chance)
    for _ in range(chance.randint(1, 2)):
        place = chance.randint(0, len(text))
        text = text[:place] + chance.choice(NOISE) + text[place + chance.randint(0, 1):]
    return text


def range_questions(chance):
    texts = BY_HAND + [well_formed(chance) for _ in range(250)]
    questions = [[text, value] for text in texts for value in chance.sample(VALUES, 5)]
    return questions + [[damaged(chance), chance.choice(VALUES)] for _ in range(600)]


def limit(chance, unit):
    """A range, mostly with start <= end; malformed, large or with a unit at times."""
    if chance.random() < 0.25:
        return chance.choice(["", "~:", "@~:", "0:", "@0:", "~:0", "10:", "0:10", "10:5", "foo", "1e3", "1-10",
                              {"B": "1.5kB", "s": "2d", "%": "90%", "": "5"}[unit], "1" + "0" * 20])
    edges = [edge for edge in EDGES if unit == "%" or "." not in edge or chance.random() < 0.2]
    start, end = sorted(chance.sample(edges, 2), key=float)
    return chance.choice(["", "", "@"]) + chance.choice(["~", start]) + ":" + end


def perfdata_questions(chance):
    questions = []
    for _ in range(600):
        unit = chance.choice(["B", "s", "%", ""])
        value = chance.choice(["0", "1", "42", "97.25" if unit == "%" else "97", "-3", "13421772800", "999999999999999"])
        label = chance.choice(LABELS[:6] if chance.random() < 0.8 else LABELS)
        questions.append(["perfdata", label, value, unit, limit(chance, unit), limit(chance, unit)])
    return questions


def ask(command, questions):
    text = "".join("\t".join(question) + "\n" for question in questions)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    answers = done.stdout.split("\n")[:-1]
    assert len(answers) == len(questions)
    return [answer.rstrip(";") for answer in answers]  # empty fields at the end may be left out


def parts(question, ours, theirs):
    if len(question) == 2 or "refused" in (ours, theirs):
        texts = question[:1] if len(question) == 2 else question[4:]
        return [Part("verdict", "\t".join(texts), ours, theirs)]
    _, label, value, unit, warn, crit = question
    our_label, _, our_numbers = ours.rpartition("=")
    their_label, _, their_numbers = theirs.rpartition("=")
    asked = [f"{text} {unit}" for text in (value, warn, crit)]
    numbers = zip(asked, (our_numbers + ";;").split(";"), (their_numbers + ";;").split(";"))
    return [Part("label", label, our_label, their_label)] + [Part("number", *number) for number in numbers]


def names_of(part):
    return [name for name, d in DIFFERENCES.items()
            if d.kind == part.kind and re.search(d.asked, part.asked) and d.holds(part.ours, part.theirs)]


def compare(questions):
    """The names of the permitted differences that occurred; fails on any other."""
    occurred, wrong = set(), []
    for question, ours, theirs in zip(questions, ask([OURS], questions), ask(["perl", THEIRS], questions)):
        for part in parts(question, ours, theirs):
            if part.ours != part.theirs:
                names = names_of(part)
                occurred.update(names)
                wrong += [] if names else [f"{question}: {part}"]
    assert not wrong, f"{len(wrong)} differences:\n" + "\n".join(wrong[:20])
    return occurred


def test_ranges_and_perfdata_agree_but_for_the_named_differences():
    chance = random.Random(SEED)
    occurred = compare(range_questions(chance)) | compare(perfdata_questions(chance))
    assert occurred == set(DIFFERENCES)


def test_the_questions_are_many_and_of_every_kind():
    chance = random.Random(SEED)
    questions = range_questions(chance)
    verdicts = ask([OURS], questions)
    assert len(questions) >= 800
    assert all(verdicts.count(verdict) >= 100 for verdict in ("alert", "ok", "refused"))


def test_monitoring_plugin_reads_our_perfdata_back():
    """It can't read `@`, nor labels with quotes or `=`; those are left out."""
    questions = [question for question in perfdata_questions(random.Random(SEED))
                 if question[1] in LABELS[:6] and "@" not in question[4] + question[5]]
    entries = [entry for entry in ask([OURS], questions) if entry != "refused"]
    assert len(entries) >= 100
    for entry, fields in zip(entries, ask(["perl", THEIRS], [["read", entry, "."] for entry in entries])):
        label, value, unit, warn, crit = (fields.split("\t") + [""] * 4)[:5]
        again = ";".join([f"'{label}'={value}{unit}" if " " in label else f"{label}={value}{unit}", warn, crit])
        assert again.rstrip(";") == entry
