# On a fresh machine: `make demo` (a small comparison that means something, a quarter of an
# hour), `make matrix` (the main job) and `make test`. Each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
AGAINST ?= b407644

.PHONY: setup demo matrix test lint faults cluster browser docs parity speed everything clean

setup: .venv/.installed

# The stamp depends on what decides the environment, so a changed pin reinstalls and an unchanged one costs nothing.
.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=python3.x")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

# Stopped and started again, it goes on from where it was.
demo: setup
	$(BIN)/risbench matrix --preset demo
	$(BIN)/risbench robustness --preset demo
	$(BIN)/risbench examples demo
	$(BIN)/risbench report demo

matrix: setup
	$(BIN)/risbench matrix --preset quick

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# One process runs the whole of a module: its fixtures are made once, and parity networks, which
# take gigabytes, come one after the other. (pytest 9.2 does not see the groups of xdist 3.8.)
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

parity: setup
	$(BIN)/python -m pytest -m parity

# With SHORT=1 the long campaigns are left out, which take half an hour.
faults: setup
	$(BIN)/python -m pytest -n 2 -m "faults$(if $(SHORT), and not campaign)"

cluster: setup
	$(BIN)/python -m pytest -m cluster

browser: setup
	$(BIN)/python -m pytest -m browser

docs: setup
	$(BIN)/python -m pytest -n 2 -m docs

everything: test faults cluster browser docs parity

# AGAINST is the commit that this code is compared with: by default the one at which the rooms were done.
# PARTS has its further options, such as PARTS='--parts step,plan --repeats 3 --out FILE'.
# RUNS names finished runs of one data set, and OPTIONS what `python -m tests.speed grouping --help` lists.
speed: setup
	$(BIN)/python -m tests.speed parts --against $(AGAINST) $(PARTS)
	$(if $(RUNS),$(BIN)/python -m tests.speed grouping $(OPTIONS) $(RUNS))

clean:
	rm -rf .venv build *.egg-info
