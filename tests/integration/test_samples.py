"""The samples of conf.d as the real programs take them: collectd, Nagios 4 and Icinga 2."""

import re

import pytest

import paths
from check import parse_perfdata
from collectd_daemon import database_block, plugin_block

METRICS = {"database", "table", "toast", "indexes", "total", "reclaimable", "live", "expired",
           "dead", "expired_percent", "database_percent", "overdue"}


@pytest.fixture
def neglected(site):
    """A site whose oldest session expired 730 days ago: a WARNING by the default thresholds."""
    site.fill(sessions=1000)
    return site


def test_collectd_reads_with_the_sample(collectd, cluster, neglected):
    text = paths.COLLECTD_SAMPLE.read_text()
    for option, value in (("Host", cluster.socket), ("Port", cluster.port)):
        assert f"#{option} " in text
        text = text.replace(f"#{option} ", f'{option} "{value}"\n    # ', 1)
    daemon = collectd(text)
    daemon.wait_for_value("django_session-site/percent-expired")
    assert daemon.wait_for_value("django_session-site/bytes-total") == neglected.sizes()["total"]
    assert "[error]" not in daemon.log_text()


def test_nagios_runs_the_check_with_the_sample(nagios, cluster, neglected):
    daemon = nagios("""
define host {
    use generic-host
    host_name localhost
    address 127.0.0.1
    max_check_attempts 3
    contact_groups admins
}
""", object_files=[paths.NAGIOS_SAMPLE], plugins=[paths.CHECK],
        environment={"PGPORT": str(cluster.port)})
    service = daemon.service("Django sessions")
    assert service["current_state"] == "1"
    assert service["plugin_output"].startswith("DJANGO_SESSION WARNING - overdue 730 d")
    assert service["long_plugin_output"]
    perfdata = parse_perfdata(service["performance_data"])
    assert METRICS <= set(perfdata)
    assert perfdata["total"][:2] == (neglected.sizes()["total"], "B")


def test_nagios_finds_nothing_to_warn_of_in_the_sample(nagios):
    daemon = nagios("""
define host {
    use generic-host
    host_name localhost
    address 127.0.0.1
    max_check_attempts 3
    contact_groups admins
}
""", object_files=[paths.NAGIOS_SAMPLE])
    judged = daemon.verify().stdout
    assert "Total Errors:   0" in judged
    assert "Total Warnings: 0" in judged, judged


def test_icinga_runs_the_check_with_the_sample(icinga, cluster, neglected):
    daemon = icinga(f"""
object Host "db1" {{
  import "generic-host"
  address = "127.0.0.1"
  vars.django_session["site"] = {{
    django_session_table = "public.django_session"
    django_session_port = {cluster.port}
  }}
}}
""", object_files=[paths.ICINGA_SAMPLE], plugins=[paths.CHECK])
    result = daemon.service("django-session-site")
    assert result["state"] == 1, result["output"]
    assert result["output"].startswith("DJANGO_SESSION WARNING - overdue 730 d")
    values = [daemon.parse_perfdata(text) for text in result["performance_data"]]
    assert METRICS <= {value["label"] for value in values}
    total = next(value for value in values if value["label"] == "total")
    assert (total["value"], total["unit"]) == (neglected.sizes()["total"], "bytes")


def test_icinga_reaches_a_host_without_an_ipv4_address(icinga, cluster, site):
    """address6 counts then, as in Icinga's own commands."""
    daemon = icinga(f"""
object Host "db1" {{
  import "generic-host"
  address6 = "::ffff:127.0.0.1"
  vars.django_session["site"] = {{ django_session_port = {cluster.port} }}
}}
""", object_files=[paths.ICINGA_SAMPLE], plugins=[paths.CHECK])
    result = daemon.service("django-session-site")
    assert result["state"] == 0, result["output"]


def test_the_service_that_the_cleanup_sample_describes_is_critical(icinga, cluster, neglected):
    """As its comment has it, so that its event command acts."""
    sample = paths.ICINGA_CLEANUP_SAMPLE.read_text()
    described = re.findall(r"^// +(vars\.django_session_(?:warning|critical) = .*)", sample, re.M)
    assert len(described) == 2
    settings = "\n  ".join(described)
    daemon = icinga(f"""
object Host "db1" {{
  import "generic-host"
  address = "127.0.0.1"
}}
object Service "sessions" {{
  import "generic-service"
  host_name = "db1"
  check_command = "django_session"
  vars.django_session_database = "site"
  vars.django_session_table = "public.django_session"
  vars.django_session_port = {cluster.port}
  {settings}
}}
""", object_files=[paths.ICINGA_SAMPLE], plugins=[paths.CHECK])
    result = daemon.service("sessions")
    assert result["state"] == 2, result["output"]
    assert result["output"].startswith("DJANGO_SESSION CRITICAL - overdue 730 d")


def pairs_of_the_samples():
    """(what triggers, method) of each sample that cleans up when something is measured."""
    collectd = paths.COLLECTD_SAMPLE.read_text()
    method = re.search(r'#Method "(\w+)"', collectd)[1]
    pairs = [(trigger, method) for trigger in re.findall(r'#Trigger "(.*)"', collectd)]
    nagios = paths.NAGIOS_CLEANUP_SAMPLE.read_text()
    thresholds = re.search(r"check_command .*!(-.*)", nagios)[1]
    method = re.search(r"event_handler +django_session_cleanup!.*!(\w+)", nagios)[1]
    pairs += [(trigger, method) for trigger in re.findall(r"-[wc] (\S+)", thresholds)]
    icinga = paths.ICINGA_CLEANUP_SAMPLE.read_text()
    method = re.search(r'^  vars.django_session_cleanup_method = "(\w+)"', icinga, re.M)[1]
    critical = re.search(r'vars.django_session_critical = "(.*)"', icinga)[1]
    return [*pairs, (critical, method)]


def test_the_samples_clean_by_what_their_method_can_end(collectd, cluster, site):
    """The plugin itself is the judge: it warns of a Trigger that the Method can hardly end."""
    pairs = pairs_of_the_samples()
    assert len(pairs) >= 3
    blocks = [database_block(
        cluster, "site", Instance=f"pair{i}",
        inner=f'    <Cleanup>\n      Trigger "{trigger}"\n      Method "{method}"\n    </Cleanup>\n')
        for i, (trigger, method) in enumerate([*pairs, ("reclaimable=1GB", "delete")])]
    daemon = collectd(plugin_block(*blocks))
    warned = re.findall(r"\[warning\] django_session plugin: (\w+): <Cleanup>", daemon.log_text())
    assert warned == [f"pair{len(pairs)}"]


@pytest.mark.parametrize("sample", [paths.CRON_SAMPLE, *paths.SYSTEMD_SAMPLES.glob("*.service")],
                         ids=lambda path: path.name)
def test_a_weekly_sample_says_what_its_method_ends(sample):
    text = sample.read_text()
    assert "django_session_cleaner --method delete" in text
    assert "`delete` ends what the check calls overdue and expired_percent" in text
    assert "`-U django_session_swapper --method auto`" in text
