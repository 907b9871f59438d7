"""What the fault campaign shares with the tests of commands and studies."""

from tests.cli.conftest import world

__all__ = ["world"]
