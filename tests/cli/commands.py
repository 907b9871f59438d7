"""How tests run a command."""

from benchmark.cli.app import app, guarded


def run(*arguments):
    """Run a command in this process and return its exit code."""
    try:
        return guarded(lambda: app([str(argument) for argument in arguments]))
    except SystemExit as end:
        return end.code


def keys(world):
    """Return the keys of the runs."""
    return sorted(path.parent.name for path in (world / "runs").glob("*/spec.yaml"))
