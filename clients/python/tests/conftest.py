import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from support import Daemon  # noqa: E402


@pytest.fixture(scope="session")
def daemon():
    one = Daemon()
    try:
        yield one.up()
    finally:
        one.down()
