# Needs Python 3.11 or newer and make; everything else is installed into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
DATASET ?= digits
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# By whole files: what a file compiles or computes for its tests is needed in one process alone.
SHARED := --numprocesses auto --maxprocesses 4 --dist loadfile
KERNELS := $(addprefix tests/,base/test_locality.py $(addprefix dimension/test_,inertia.py inertia_small.py) $(addprefix neighbors/test_,measuring.py shortlists.py tree.py))

.PHONY: figures claims benchmark gpu test test-all fuzz clean

figures: .venv/.runtime
	$(BIN)/python experiments/figure_2.py
	$(BIN)/python experiments/figure_6.py --images $(DATASET)
	$(BIN)/python experiments/figure_7.py
	$(BIN)/python experiments/figure_8.py --images $(DATASET)

claims: .venv/.runtime
	$(BIN)/python experiments/claims.py

benchmark: .venv/.benchmark
	$(BIN)/python experiments/benchmark.py

# With the Python that has CUDA's torch, without a .venv (docs/gpu.md): make gpu ARGS="--data FOLDER"
gpu:
	$(or $(GPU_PYTHON),python3) experiments/gpu.py $(ARGS)

test: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
# The kernels are compiled beside mypy, once, and not by each process of the tests.
	$(BIN)/python tests/compile_kernels.py & compiling=$$!; \
		$(BIN)/mypy; checked=$$?; wait $$compiling && exit $$checked
# Several processes share the cores: a waiting thread leaves its core to the others.
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest $(SHARED)
# Compiled code writes past the end of an array without a word: its tests once more, with checks.
	OMP_WAIT_POLICY=passive NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$(CURDIR)/.venv/checked \
		$(BIN)/python -m pytest $(SHARED) --maxprocesses 2 $(KERNELS)

# The suite on each of these Pythons that is installed, pyenv's too, in an environment of its own.
test-all: $(addprefix test-,3.11 3.12 3.13)

test-3.%:
	@for python in python3.$* $(HOME)/.pyenv/versions/3.$*.*/bin/python3.$*; do \
		if $$python -m venv .venv-3.$* 2>/dev/null; then break; fi; \
	done
	@if [ -e .venv-3.$*/bin/pip ]; then $(MAKE) run-3.$*; else echo "no Python 3.$* here"; fi

run-3.%:
	.venv-3.$*/bin/python -m pip install --quiet --disable-pip-version-check \
		$(if $(filter 11,$*),--constraint constraints.txt) --editable '.[test]'
	OMP_WAIT_POLICY=passive .venv-3.$*/bin/python -m pytest $(SHARED)

# More than 100,000 damaged files; what happened goes to experiments/results/fuzz.json.
fuzz: .venv/.test
	$(BIN)/python -m pytest tests/datasets/test_fuzz.py --hypothesis-profile=fuzz --hypothesis-seed=0 \
		-o faulthandler_timeout=0

.venv/.runtime: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --constraint constraints.txt --editable '.[tsne]'
	touch $@

.venv/.benchmark: .venv/.runtime
	$(PIP) --constraint constraints.txt --editable '.[benchmark]'
	touch $@

.venv/.test: .venv/.runtime
	$(PIP) --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-3.* build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
