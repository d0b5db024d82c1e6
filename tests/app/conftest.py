"""The embedded pair, a studio on this machine and a public one, and a page in a browser."""

import sys

import pytest

from app.server.studio import Studio


@pytest.fixture(scope="session")
def pair(embedded_pair):
    return embedded_pair


@pytest.fixture
def local(tmp_path):
    return Studio(tmp_path / "runs", public=False)


@pytest.fixture
def public(tmp_path):
    return Studio(tmp_path / "runs", public=True)


@pytest.fixture(scope="module")
def browser():
    """One Chromium for the tests of a file."""
    from tests.support import studio_page

    with studio_page.browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("studio") / "runs"


@pytest.fixture(scope="module")
def address(hub, runs_dir):
    """Where a studio runs that uses the file's own Hub."""
    from tests.support import studio_page

    with studio_page.running_studio(runs_dir, hub.env()) as url:
        yield url


@pytest.fixture
def studio(browser, address):
    """A new visitor's page, not yet opened."""
    from tests.support import studio_page

    studio = studio_page.visitor(browser, address)
    yield studio
    studio.close()


@pytest.fixture(autouse=True)
def no_page_error():
    """No page that a test opened may have had an error, or have asked another machine for anything."""
    yield
    if studio_page := sys.modules.get("tests.support.studio_page"):
        studio_page.Studio.check_opened()
