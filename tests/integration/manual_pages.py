"""The manual pages, and what mandoc says of them."""

import re
import subprocess

from paths import ROOT

PAGES = {path.name: path for folder in ("nagios", "plugin") for path in (ROOT / folder).glob("*.[157]")}


def lint(page):
    """What is wrong with it. Which other pages are installed on this machine doesn't matter."""
    found = subprocess.run(["mandoc", "-T", "lint", page], check=False, stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL, text=True).stdout.splitlines()
    return [line for line in found if "referenced manual not found" not in line]


def references(page):
    """The pages that it refers to, as file names."""
    return [f"{name}.{section}" for name, section in re.findall(r"^\.Xr (\S+) (\d)", page.read_text(), re.M)]


def part(page, begin):
    """What stands below a heading, up to the next one: part(page, ".Ss Of <Cleanup>")."""
    return re.search(rf"^{re.escape(begin)}\n(.*?)(?=^\.S[hs] |\Z)", page.read_text(), re.M | re.S)[1]
