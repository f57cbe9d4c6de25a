"""conf.d's rules and scrape sample for Prometheus, and the dashboard for Grafana: as promtool judges them, and on a real
Prometheus that scrapes a real collectd. Grafana itself isn't in Debian: of the dashboard it is its queries that run."""

import json
import re
from collections import Counter

import pytest

import paths
import runbook
from cleanup_command import SWAPPER
from collectd_daemon import HOST, database_block, plugin_block
from processes import free_port, program, readable_copy, run, wait_for
from prometheus_server import PrometheusServer

RULES = paths.CONF / "prometheus" / "django_session.rules.yml"
SCRAPE = paths.CONF / "prometheus" / "prometheus.yml"
DASHBOARD = paths.CONF / "grafana" / "django_session.json"
TESTS_OF_RULES = [paths.ROOT / "tests" / "integration" / name for name in ("prometheus_rules.yml", "prometheus_growth.yml")]
ALERTS = re.findall(r"- alert: (\w+)\n((?:        .*\n|\n)*)", RULES.read_text())
SITE = "site"
# Between single quotes, with each quote in the name written as '\'': prometheus_rules.yml has a name that needs it.
QUOTED_LABEL = r"""'{{ reReplaceAll "'" "'\\''" $labels.django_session }}'"""


def promtool(folder, *words):
    for path in (RULES, SCRAPE, *TESTS_OF_RULES):
        readable_copy(path, folder)
    return run([program("promtool"), *words], folder=folder, check=False, timeout=300)


def test_promtool_finds_nothing_wrong_in_the_samples(folder):
    done = promtool(folder, "check", "config", "--lint-fatal", "prometheus.yml")
    assert done.returncode == 0 and f"SUCCESS: {len(ALERTS)} rules found" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("tests", TESTS_OF_RULES, ids=lambda path: path.stem)
def test_the_alerts_fire_when_they_should_and_no_other_does(folder, tests):
    done = promtool(folder, "test", "rules", tests.name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_seen_to_fire():
    seen = "\n".join(path.read_text() for path in TESTS_OF_RULES)
    assert len(ALERTS) > 10
    assert not [name for name, _ in ALERTS if f'ALERTS{{alertname="{name}", alertstate="firing"' not in seen]


@pytest.mark.parametrize("rule", [text for _, text in ALERTS], ids=[name for name, _ in ALERTS])
def test_an_alert_has_a_command_of_the_section_that_it_names(rule):
    sections = re.findall(r'section "([^"]*)"', re.search(r"runbook: (.*)", rule)[1])
    assert sections and set(sections) <= set(runbook.SECTIONS)
    command = re.search(r"command: \|-\n +(.*)\n", rule)[1]
    typed = command.replace(QUOTED_LABEL, SITE)
    assert typed in [line for block in runbook.BLOCKS if block.section in sections for line in block.commands], typed
    assert re.search(r"severity: (warning|critical)\n", rule)


# -- a real one ------------------------------------------------------------------------------------


@pytest.fixture
def prometheus(collectd, cluster, neglected, folder):
    """Scrapes, each second, a collectd that has cleaned its site once."""
    cleanup = f'    <Cleanup>\n      Trigger "reclaimable=1MB"\n      Method "swap"\n      User "{SWAPPER}"\n    </Cleanup>\n'
    exported = re.sub(r"^# ? ?", "", "".join(re.findall(r"^#   .*\n", SCRAPE.read_text(), re.M)[:5]), flags=re.M)
    port = free_port()
    exported = exported.replace("192.0.2.1", "127.0.0.1").replace("9103", str(port))
    assert "LoadPlugin write_prometheus" in exported and "</Plugin>" in exported, exported
    scrape = SCRAPE.read_text().replace("192.0.2.1:9103", f"127.0.0.1:{port}")
    server = PrometheusServer(folder, "global: {scrape_interval: 1s, evaluation_interval: 1s}\n" + scrape, [RULES]).start()
    daemon = collectd(exported + plugin_block(database_block(cluster, SITE, inner=cleanup)))
    daemon.wait_for_log("cleanup ended", timeout=120)
    yield server
    server.stop()


def substituted(query):
    """As Grafana sends it, for the site and a time of 5 minutes."""
    for name, value in {"$site": SITE, "$instance": HOST, "$__rate_interval": "5m", "$__range": "5m"}.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


def selectors(rule):
    """Of a rule's expression, without ranges and comparisons: what it asks Prometheus for."""
    expression = rule.partition("annotations:")[0]
    return re.findall(r'collectd_\w+(?:\{[^}]*\})?', re.sub(r"#.*", "", expression))


def test_every_query_of_the_dashboard_and_the_rules_has_series(prometheus):
    dashboard = json.loads(DASHBOARD.read_text())
    for variable in dashboard["templating"]["list"][1:]:
        of, label = re.fullmatch(r"label_values\((.*), (\w+)\)", substituted(variable["query"]["query"])).groups()
        expected = {"site": SITE, "instance": HOST}[variable["name"]]
        wait_for(lambda: prometheus.ask(f"label/{label}/values", **{"match[]": of}) == [expected], f"{of} of {expected}", 60)

    queries = {f"{panel['title']} ({target['refId']})": substituted(target["expr"])
               for panel in dashboard["panels"] for target in panel["targets"]}
    queries |= {f"{name}: {selector}": selector for name, rule in ALERTS for selector in selectors(rule)}
    for name, query in queries.items():
        found = wait_for(lambda: prometheus.series(query), f"a series of {name}: {query}", 60)
        print(f"{len(found):>3} series: {name}")
        assert all(labels.get("instance", HOST) == HOST for labels, _ in found), found  # honor_labels

    # What is stacked adds up to the total; the site is idle, so the value stays.
    parts, _ = next(panel["targets"] for panel in dashboard["panels"] if panel["title"] == "Size of the session table")
    total = f'collectd_django_session_bytes{{django_session="{SITE}", type="total"}}'
    wait_for(lambda: [value for _, value in prometheus.series(f"sum({substituted(parts['expr'])})")]
             == [value for _, value in prometheus.series(total)], "parts that add up", 60)

    def evaluated():
        rules = prometheus.ask("rules")["groups"][0]["rules"]
        return rules if all(rule["health"] != "unknown" for rule in rules) else None
    judged = wait_for(evaluated, "the rules' first evaluation", 60)
    assert Counter(rule["health"] for rule in judged) == {"ok": len(ALERTS)}, judged
    assert not [rule for rule in judged if rule["state"] == "firing"], judged


def test_the_dashboard_is_laid_out_without_gaps_and_overlaps():
    dashboard = json.loads(DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert sorted(panel["id"] for panel in panels) == list(range(1, len(panels) + 1))
    taken = Counter((x, y) for panel in panels for place in [panel["gridPos"]]
                    for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"]))
    bottom = max(y for _, y in taken) + 1
    assert set(taken.values()) == {1} and len(taken) == 24 * bottom
    # No data source of ours: the one that is chosen above.
    used = re.findall(r'"datasource": (.*?),?\n', DASHBOARD.read_text())
    assert len(used) == len(panels) + 2 and set(used) == {'{"type": "prometheus", "uid": "${datasource}"}'}
