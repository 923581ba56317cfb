import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

pytest.register_assert_rewrite("support")

from stub import Stub  # noqa: E402
from support import Caught, Daemon  # noqa: E402

from tallyd import _twice  # noqa: E402


@pytest.fixture(scope="session")
def daemon():
    one = Daemon(TALLYD_ALERTS_INTERVAL_MS="100")
    try:
        yield one.up()
    finally:
        one.down()


@pytest.fixture
def stub():
    server = Stub()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def caught():
    return Caught()


@pytest.fixture(autouse=True)
def nothing_is_seen():
    """Forgets calls of earlier tests, which a tracker would find for ten minutes."""
    _twice._noted.clear()
