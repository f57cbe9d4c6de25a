"""The samples of conf.d as the real programs take them: collectd, Nagios 4 and Icinga 2."""

import json
import re
from pathlib import Path

import pytest

import paths
from check import parse_perfdata
from collectd_daemon import database_block, plugin_block
from django_site import MONITOR
from processes import AM_ROOT, PLAIN_ENVIRONMENT, private_file, private_folder, readable_copy, run, wait_for

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
""", object_files=paths.NAGIOS_SAMPLES, plugins=[paths.CHECK],
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
""", object_files=[*paths.NAGIOS_SAMPLES, paths.NAGIOS_MAIL_SAMPLE])
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
""", object_files=paths.ICINGA_SAMPLES, plugins=[paths.CHECK])
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
""", object_files=paths.ICINGA_SAMPLES, plugins=[paths.CHECK])
    result = daemon.service("django-session-site")
    assert result["state"] == 0, result["output"]


# Not for a monitoring system: what a person calls, and --no-progress, which the command has in its shell.
BY_HAND = {"-h", "-V", "--dry-run", "--rehearse", "--abort", "--json", "--no-progress"}


@pytest.mark.parametrize("command, program, not_here", [
    ("checkcommands/django_session", paths.CHECK, BY_HAND), ("eventcommands/django_session_cleanup", paths.CLEANUP, {*BY_HAND, "-v"})])
def test_icingas_commands_have_each_option_its_variable_and_a_description(icinga, command, program, not_here):
    """As the commands of its own template library (ITL) have them."""
    daemon = icinga(object_files=[paths.ICINGA_COMMAND, paths.ICINGA_CLEANUP_SAMPLE])
    found, = daemon.request(f"/v1/objects/{command}")
    arguments = found["attrs"]["arguments"]
    options = re.findall(r"^ +(-\w|--[\w-]+)", run([readable_copy(program, daemon.folder), "--help"], check=False).stdout, re.M)
    assert len(options) > 10 and set(arguments) == set(options) - not_here
    for option, argument in arguments.items():
        assert argument["description"], option
        assert re.fullmatch(r"\$(django_session_\w+|service\.state|service\.state_type)\$", argument.get("value") or argument["set_if"])


def test_the_directors_basket_has_the_same_command_and_a_field_for_each_variable(icinga):
    """The Director can't import ipv4-or-ipv6, so the host's address is found by an expression of its own."""
    packaged = icinga(object_files=[paths.ICINGA_COMMAND]).request("/v1/objects/checkcommands/django_session")[0]["attrs"]
    basket = json.loads(paths.DIRECTOR_BASKET.read_text())
    command, = basket["Command"].values()
    variables = {(argument.get("value") or argument["set_if"]).strip("$"): argument for argument in packaged["arguments"].values()}
    fields = {basket["Datafield"][str(link["datafield_id"])]["varname"]: link["is_required"] for link in command["fields"]}
    assert fields == {name: "y" if "required" in argument else "n" for name, argument in variables.items()}
    assert {field["varname"]: field["description"] for field in basket["Datafield"].values()} == {
        name: argument["description"] for name, argument in variables.items()}

    assert command["arguments"]["-H"].pop("value")["body"].startswith(f'return macro("{packaged["arguments"]["-H"].pop("value")}") ||')
    assert command["arguments"] == packaged["arguments"]
    assert ([command["command"]], command["timeout"]) == ([Path(word).name for word in packaged["command"]], packaged["timeout"])
    assert packaged["vars"].pop("django_session_host") == "$check_address$"
    assert command["vars"] == {name: value for name, value in packaged["vars"].items() if name.startswith("django_session_")}


def test_icinga_passes_each_variable_on(icinga, cluster, site, folder):
    service = private_file(folder / "pg_service.conf", "[site]\ndbname=site\n")
    daemon = icinga(f"""
object Host "db1" {{
  import "generic-host"
  address = "192.0.2.1"
  vars.django_session["site"] = {{
    django_session_host = "127.0.0.1"
    django_session_port = {cluster.port}
    django_session_service = "site"
    django_session_table = "public.django_session"
    django_session_warning = [ "overdue=3d", "total=1TB" ]
    django_session_critical = "total=2TB"
    django_session_timeout = 20
    django_session_exact = true
    django_session_verbose = true
  }}
}}
""", object_files=paths.ICINGA_SAMPLES, plugins=[paths.CHECK], environment={"PGSERVICEFILE": str(service)})
    result = daemon.service("django-session-site")
    assert result["state"] == 0, result["output"]
    words = result["command"][1:]
    given = {option: [words[i + 1] for i, word in enumerate(words) if word == option]
             for option in ("-H", "-p", "-d", "-U", "--service", "-T", "-w", "-c", "-t")}
    assert given == {"-H": ["127.0.0.1"], "-p": [str(cluster.port)], "-d": ["site"], "-U": [MONITOR], "--service": ["site"],
                     "-T": ["public.django_session"], "-w": ["overdue=3d", "total=1TB"], "-c": ["total=2TB"], "-t": ["20"]}
    assert {"--exact", "-v"} < set(words)


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
""", object_files=paths.ICINGA_SAMPLES, plugins=[paths.CHECK])
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
def test_a_nightly_sample_says_what_its_method_ends(sample):
    text = sample.read_text()
    assert "django_session_cleaner --method delete" in text
    assert "`delete` ends what the check calls overdue and expired_percent" in text
    assert "`-U django_session_swapper --method auto`" in text


# -- mails -----------------------------------------------------------------------------------------


@pytest.fixture
def mail(folder):
    """Stands for `mail`: its path, and what it was given last."""
    place = private_folder(folder, "mail")
    private_file(place / "mail", f'#!/bin/sh\ncat >"{place}/$$" && mv "{place}/$$" "{place}/sent"\n', 0o755)
    return place


def sent(mail):
    return wait_for(lambda: (mail / "sent").exists() and (mail / "sent").read_text(), "a mail", 60)


def with_mail(mail):
    return {"PATH": f"{mail}:{PLAIN_ENVIRONMENT['PATH']}"}


@pytest.fixture
def advice(run_check, cluster, neglected):
    """The commands of a neglected site's page, with all their quotes."""
    neglected.fill(sessions=30_000)
    page = run_check("-H", "127.0.0.1", "-d", "site", "-T", "public.django_session", "-c", "reclaimable=1MB",
                     environment={"PGPORT": str(cluster.port), "PGUSER": MONITOR}).long_text
    commands = re.findall(r"^(?:Next|Instead|Then): .*\n(  .*)$", page, re.M)
    assert page.startswith("Next: ") and "'" in "".join(commands) and "&&" in "".join(commands), page
    return commands


@pytest.fixture
def mailing_nagios(nagios, cluster, mail):
    """A Nagios whose contact has the sample's mails: mailing_nagios(settings of nagios.cfg)."""
    return lambda settings: nagios("""
define host {
    use generic-host
    host_name localhost
    address 127.0.0.1
    max_check_attempts 3
    contact_groups admins
}
define contact {
    contact_name on-call
    use generic-contact
    email root@localhost
    service_notification_commands notify-service-with-all-lines
}
define service {
    service_description neglected
    use generic-service
    host_name localhost
    check_command check_django_session!site!public.django_session!-c reclaimable=1MB
    max_check_attempts 1
    contacts on-call
}
""", object_files=[*paths.NAGIOS_SAMPLES, paths.NAGIOS_MAIL_SAMPLE], plugins=[paths.CHECK],
        environment={"PGPORT": str(cluster.port), **with_mail(mail)}, settings=f"enable_notifications=1\n{settings}\n")


def test_nagios_mails_every_command_whole(mailing_nagios, mail, advice):
    mailing_nagios("enable_environment_macros=1")
    text = sent(mail)
    assert "PROBLEM: neglected on localhost is CRITICAL" in text
    assert "\nDJANGO_SESSION CRITICAL - reclaimable" in text
    assert not [command for command in advice if command + "\n" not in text], text


def test_nagios_mails_no_command_that_has_lost_its_quotes(mailing_nagios, mail, advice):
    mailing_nagios("enable_environment_macros=0")
    text = sent(mail)
    assert "\nDJANGO_SESSION CRITICAL - reclaimable" in text
    assert "enable_environment_macros=1 is missing in nagios.cfg." in text
    assert "psql" not in text


def test_icingas_own_mails_have_every_command_whole(icinga, cluster, mail, advice):
    """By Debian's command and script, as the sample's comment says."""
    assert AM_ROOT, "only root and Icinga may read its configuration"
    script = readable_copy("/etc/icinga2/scripts/mail-service-notification.sh", mail)
    command = Path("/etc/icinga2/conf.d/commands.conf").read_text()
    command = command[command.index('object NotificationCommand "mail-service-notification"'):].partition("\n}\n")[0] + "\n}\n"
    daemon = icinga(command.replace('ConfigDir + "/scripts/mail-service-notification.sh"', f'"{script}"') + f"""
object NotificationComponent "notification" {{ }}
object User "on-call" {{ email = "root@localhost" }}
object Host "db1" {{
  import "generic-host"
  address = "127.0.0.1"
  vars.django_session["site"] = {{
    django_session_table = "public.django_session"
    django_session_port = {cluster.port}
    django_session_critical = "reclaimable=1MB"
  }}
}}
apply Notification "mail" to Service {{
  command = "mail-service-notification"
  users = [ "on-call" ]
  assign where host.name == "db1"
}}
""", object_files=paths.ICINGA_SAMPLES, plugins=[paths.CHECK], environment=with_mail(mail))
    daemon.service("django-session-site")
    # A problem's own mail would come with the third check.
    daemon.request("/v1/actions/send-custom-notification?type=Service&filter=true&author=a&comment=b&force=true", "POST")
    text = sent(mail)
    assert "DJANGO_SESSION CRITICAL - reclaimable" in text
    assert not [command for command in advice if command + "\n" not in text], text
