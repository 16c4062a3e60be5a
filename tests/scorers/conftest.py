"""The fake Perspective server, and clients that reach it."""

import pytest
from fake_perspective import KEY, Clock, FakePerspective, ToFake

from minitox.scorers.perspective import Perspective

SETTINGS = (
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "PERSPECTIVE_API_KEY",
)


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    with FakePerspective() as running:
        yield running


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def google(monkeypatch, server, clock):
    """A client of Google's service, whose requests reach the fake server."""
    monkeypatch.setenv("PERSPECTIVE_API_KEY", KEY)
    scorer = Perspective(clock=clock, sleep=clock.sleep)
    scorer.session.mount("https://", ToFake(server.origin))
    return scorer


@pytest.fixture
def scorer(server, clock):
    """A client of a compatible server that needs no key."""
    return Perspective(server.url, clock=clock, sleep=clock.sleep)
