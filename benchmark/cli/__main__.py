"""`python -m benchmark.cli` is the command `risbench`."""

from benchmark.cli.app import main

main()
