"""The campaign works on copies of what the tests of the commands work on."""

from tests.cli.conftest import world

__all__ = ["world"]
