"""Reads the manual page django_session(7): its sections, and the blocks of commands with the state that each is for."""

import re
from dataclasses import dataclass, field

from paths import ROOT

PAGE = ROOT / "nagios" / "django_session.7"
PARTS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
ESCAPES = {r"\(aq": "'", r"\(ti": "~", r"\(ha": "^", r"\(ga": "`", r"\-": "-", r"\&": "", r"\e": "\\"}


@dataclass
class Block:
    """Commands that are typed one after the other, in one shell."""

    section: str
    part: str  # of the section: "Mitigation"
    state: str
    commands: list = field(default_factory=list)


def plain(line):
    """As it is shown: nothing of roff is left in it."""
    return re.sub(r"\\(\(..|.)", lambda found: ESCAPES[found[0]], line)


def read():
    """Sections with the names of their parts, all blocks, in the order of the page, and what the last chapter shows."""
    text, last = PAGE.read_text().split("\n.Sh STOPPING IT AT THE ROOT\n")
    sections, blocks, section, states = {}, [], "", []
    for line in text.splitlines():
        if line.startswith(".Ss "):
            section = plain(line[4:])
            sections[section] = []
        elif part := re.match(r"\.Sy (\w+) :$", line):
            sections[section].append(part[1])
        elif marked := re.match(r'\.\\" state: (.*)$', line):
            states = marked[1].split(", ")
        elif line.startswith(".Bd -literal"):
            blocks += [Block(section, sections[section][-1], state) for state in states or [None]]
        elif line == ".Ed":
            states = []
        elif states:
            for block in blocks[-len(states):]:
                block.commands.append(plain(line))
    shown = re.findall(r'^\.\\" state: (.*)\n\.Bd .*\n((?:.*\n)*?)\.Ed$', last, re.M)
    return sections, blocks, {name: "\n".join(map(plain, lines.splitlines())) for name, lines in shown}


SECTIONS, BLOCKS, ROOT = read()

