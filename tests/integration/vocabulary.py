"""The vocabulary as lib/core/metric.cpp has it: what the plugin sends, for whoever explains it."""

import re
from typing import NamedTuple

from paths import ROOT

SOURCE = ROOT / "lib" / "core" / "metric.cpp"
UNITS = {"bytes": "bytes", "rows": "rows", "percent": "%", "seconds": "seconds"}


class Value(NamedTuple):
    metric: str  # its name in thresholds, or "" for what only the plugin sends
    unit: str
    meaning: str
    collectd: str  # type and type instance


def strings(text):
    return re.findall(r'"([^"]*)"', re.sub(r'"\s*\n\s*"', "", text))


def collectd_name(kind, instance):
    return f"{kind}-{instance}" if instance else kind


def read():
    source = SOURCE.read_text()
    found = []
    for name, unit, rest in re.findall(r'\{Metric::\w+, "(\w+)", Unit::(\w+), ([^}]*)\}', source):
        kind, instance, meaning = strings(rest)
        found.append(Value(name, UNITS[unit], meaning, collectd_name(kind, instance)))
    for value, rest in re.findall(r"\{PluginValue::(\w+), ([^}]*)\}", source):
        unit, kind, instance, meaning = strings(rest)
        found.append(Value("", unit, meaning,
                           collectd_name(kind, instance + ("<name>" if value == "index" else ""))))
    return found


VALUES = read()
