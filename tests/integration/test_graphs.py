"""What conf.d has for collectd's own files and notifications: pictures by rrdtool, limits of its plugin threshold, and the
names that Collectd Graph Panel is given."""

import json
import re
import struct

import pytest

import paths
from collectd_daemon import HOST, database_block, plugin_block
from processes import PLAIN_ENVIRONMENT, free_port, private_file, private_folder, program, readable_copy, run
from vocabulary import VALUES

GRAPHS = paths.CONF / "rrdtool" / "django_session_graphs"
PICTURES = ["changes", "indexes", "overview", "sessions", "sizes"]
THRESHOLDS = paths.CONF / "collectd" / "django_session_threshold.conf"
PANEL = paths.CONF / "cgp" / "django_session.json"
RRDTOOL = 'LoadPlugin rrdtool\n<Plugin rrdtool>\n  DataDir "{folder}/rrd"\n  RRARows 600\n  RRATimespan 600\n</Plugin>\n'


@pytest.fixture
def files(collectd, cluster, site, folder):
    """The folder of a site's RRD files. Two of its indexes have awkward names."""
    site.fill()
    site.psql('CREATE INDEX "by:data" ON django_session (session_data); CREATE INDEX "it\'s 100%" ON django_session (session_data)')
    daemon = collectd(RRDTOOL.format(folder=private_folder(folder, "files")) + plugin_block(database_block(cluster, "site")))
    daemon.wait_for_reads("django_session-site/bytes-total", 5, timeout=120)
    daemon.stop()  # and writes what it has not yet written
    return folder / "files" / "rrd" / HOST / "django_session-site"


def draw(files, target, path=PLAIN_ENVIRONMENT["PATH"]):
    """{name: content} of all pictures of the last ten minutes."""
    run([readable_copy(GRAPHS, target.parent), files, target, "-10min"], environment={"PATH": path})
    return {picture.stem: picture.read_bytes() for picture in sorted(target.iterdir())}


def drawn(files, folder):
    """{picture: {legend: last number}}: what rrdtool draws, as it says itself when asked for JSON in place of PNG."""
    place = private_folder(folder, "bin")
    private_file(place / "rrdtool", f'#!/bin/sh\nexec {program("rrdtool")} "$@" --imgformat JSON\n', 0o755)
    found = {}
    for name, content in draw(files, private_folder(folder, "json"), f"{place}:{PLAIN_ENVIRONMENT['PATH']}").items():
        graph = json.loads(content)
        columns = zip(*graph["data"])
        found[name] = {legend.strip(): next((number for number in reversed(column) if number is not None), None)
                       for legend, column in zip(graph["meta"]["legend"], columns)}
    return found


def last_value(path):
    return float(run(["rrdtool", "lastupdate", path]).stdout.split()[-1])


def test_rrdtool_draws_what_collectd_has_written(files, folder):
    pictures = draw(files, private_folder(folder, "png"))
    assert list(pictures) == PICTURES
    for content in pictures.values():
        assert content.startswith(b"\x89PNG") and struct.unpack(">II", content[16:24]) > (640, 240)


def test_each_line_is_there_and_what_is_stacked_adds_up(files, folder):
    graphs = drawn(files, folder)
    assert list(graphs) == PICTURES
    assert {name: None for name in PICTURES if not graphs[name] or None in graphs[name].values()} == {}, graphs
    assert {"by:data", "it's 100%"} < graphs["indexes"].keys() and len(graphs["indexes"]) == 5
    sizes, sessions = graphs["sizes"], graphs["sessions"]
    assert sizes["table"] + sizes["TOAST"] + sizes["indexes"] == last_value(files / "bytes-total.rrd") > 0
    assert (sessions["live"], sessions["expired"]) == pytest.approx(tuple(
        last_value(files / f"pg_n_tup_g-{name}.rrd") for name in ("live", "expired")), rel=0.01)  # they are estimates
    assert sum(graphs["indexes"].values()) == sizes["indexes"]


def test_thresholds_of_the_sample_notify(collectd, cluster, site):
    site.fill()
    daemon = collectd(THRESHOLDS.read_text() + plugin_block(
        database_block(cluster, "site"), database_block(cluster, "site", Instance="gone", Port=free_port())))
    daemon.wait_for_log(r"severity = WARNING, .*plugin_instance = site, type = duration, type_instance = overdue.*63\d{6}\.", timeout=60)
    daemon.wait_for_log(r"severity = FAILURE, .*plugin_instance = gone, type = bool, type_instance = up", timeout=60)
    daemon.wait_for_reads("django_session-site/bytes-total", 2)
    notified = set(re.findall(r"severity = (WARNING|FAILURE).*plugin_instance = (\w+), type = (\w+), type_instance = (\w+)",
                              daemon.log_text()))
    assert notified == {("WARNING", "site", "duration", "overdue"), ("FAILURE", "gone", "bool", "up")}


def test_the_panel_names_each_value_but_counters_of_cleanups_and_single_indexes():
    named = {f"{kind}-{instance}" if instance != "value" else kind
             for kind, graph in json.loads(PANEL.read_text()).items() for instance in graph["legend"]}
    sent = {value.collectd for value in VALUES}
    assert named == {name for name in sent if not name.startswith("total_") and "<name>" not in name}
