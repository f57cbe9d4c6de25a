"""One Debian 12 from the archive, from which each module unpacks its own."""

import os

import pytest

from debian_root import DebianRoot, make_archive


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """DJANGO_SESSION_DEBIAN names one that was made before."""
    if "DJANGO_SESSION_DEBIAN" in os.environ:
        return os.environ["DJANGO_SESSION_DEBIAN"]
    made = tmp_path_factory.mktemp("archive") / "debian.tar"
    make_archive(made)
    return made


@pytest.fixture(scope="module")
def debian(request, tmp_path_factory, archive):
    """A module's own, of the kind that it says (DEBIAN): as a rule one in which no systemd runs."""
    kind = getattr(request.module, "DEBIAN", DebianRoot)
    root = kind(tmp_path_factory.mktemp("debian") / "root", archive)
    yield root
    root.end()
