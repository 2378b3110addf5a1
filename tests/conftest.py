"""Fixtures for tests that talk to a real server over a real socket."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import combinations, postgres
from tests.e2e.programs import MISSING
from tests.gcs.running import RunningGcs
from tests.running import Api, RunningServer

_numbers = itertools.count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Let the workers of this session meet at one PostgreSQL, should any of them need it."""
    if not hasattr(config, "workerinput"):
        postgres.share()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind."""
    if not hasattr(config, "workerinput"):
        postgres.unshare()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why tests were tried again, and which programs were missing, so that nobody takes either for passed."""
    for report in terminalreporter.getreports("rerun"):
        terminalreporter.write_sep("_", f"tried once more: {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)
    reasons = [str(report.longrepr[2]) for report in terminalreporter.getreports("skipped")]
    for program in sorted({found[2] for reason in reasons if (found := reason.partition(MISSING))[1]}):
        terminalreporter.write_line(f"NOT TESTED here, for want of a program: {program}", red=True, bold=True)


@pytest.fixture(scope="session")
def gcs() -> RunningGcs:
    """Share a fake of Cloud Storage among the tests of one worker; they keep to names of their own."""
    return combinations.fake_gcs()


@pytest.fixture(scope="session", autouse=True)
def _all_stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Remove the stores of shared servers in the end."""
    yield
    combinations.remove(tmp_path_factory.getbasetemp())
    combinations.stop_fake_gcs()


@pytest.fixture(autouse=True)
def _own_stores(request: pytest.FixtureRequest) -> Iterator[None]:
    """Remove the stores of a test's own servers when they have ended."""
    yield
    tmp_path = request.node.funcargs.get("tmp_path") if isinstance(request.node, pytest.Function) else None
    if isinstance(tmp_path, Path):
        combinations.remove(tmp_path)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Share a server among the tests of one worker; they keep to issues and users of their own."""
    running = RunningServer(tmp_path_factory.mktemp("shared") / "data").start()
    yield running
    running.signal(signal.SIGKILL)
    running.wait()


@pytest.fixture
def api(server: RunningServer) -> Api:
    """Stubs that call the shared server with the development key."""
    return server.api()


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start servers with options of the test's own; they are killed afterwards."""
    started: list[RunningServer] = []

    def start(*options: str, **environment: str) -> RunningServer:
        data = tmp_path / f"data{len(started)}"
        started.append(RunningServer(data, *options, environment=environment).start())
        return started[-1]

    yield start
    for running in started:
        running.signal(signal.SIGKILL)
        running.wait()


@pytest.fixture
def new_issue() -> str:
    """Make a key that no other test uses; with five digits more behind it, it is still nobody else's."""
    return f"TEST-{next(_numbers)}"
