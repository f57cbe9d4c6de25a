"""One Debian 12 from the archive, from which each module unpacks its own."""

import os

import pytest

from debian_root import make_archive


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    """DJANGO_SESSION_DEBIAN names one that was made before."""
    if "DJANGO_SESSION_DEBIAN" in os.environ:
        return os.environ["DJANGO_SESSION_DEBIAN"]
    made = tmp_path_factory.mktemp("archive") / "debian.tar"
    make_archive(made)
    return made
