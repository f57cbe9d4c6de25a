"""Finds the parameter lists in C++ source: good enough for code that clang-format has laid out."""

import re

PARAMETER = re.compile(
    r"(?:(?:const|unsigned) +)*[\w:]+(?:<.*>)?(?: +const)?(?: *[&*]+ *| +)(?:const +)?\w*( *=.*)?$",
    re.S)


def without_comments_and_strings(text):
    text = re.sub(r'R"(\w*)\((.*?)\)\1"', '""', text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    text = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', text)
    return re.sub(r"'(?:\\.|[^'\\\n])'", "' '", text)


def parentheses(text):
    """(start, what is inside) of each pair."""
    opened = []
    for place, character in enumerate(text):
        if character == "(":
            opened.append(place)
        elif character == ")" and opened:
            yield opened[-1], text[opened.pop() + 1:place]


def at_commas(text):
    """Split at the commas that are in no brackets."""
    depth, parts = 0, [""]
    for place, character in enumerate(text):
        if character in "([{<":
            depth += 1
        elif character in ")]}" or (character == ">" and text[place - 1] != "-"):
            depth -= 1
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [" ".join(part.split()) for part in parts]


def functions(source):
    """(name, number of parameters) of each function, method and lambda that is declared or defined
    with two parameters or more. A call is told from a declaration by what is between its commas: a
    type and a name."""
    text = without_comments_and_strings(source)
    for start, inside in parentheses(text):
        parameters = at_commas(inside)
        if len(parameters) > 1 and all(PARAMETER.match(each) for each in parameters):
            name = re.search(r"([\w:~]*)\s*$", text[:start]).group(1)
            yield name or "a lambda", len(parameters)
