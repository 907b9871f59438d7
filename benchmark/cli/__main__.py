"""`python -m benchmark.cli` is the command `risbench`, and the command of its jobs."""

from benchmark.base.parent import end_with_launcher

# The imports below take seconds, in which the launcher of a job may die.
end_with_launcher()

from benchmark.cli.app import main  # noqa: E402

main()
