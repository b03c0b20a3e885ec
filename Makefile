# Each target does its own set-up; the second time that takes no time.
#   make demo    the main job, end to end (make demo-sesr: the same for SESR)
#   make test    the tests (make test-fast: a minute's worth of them; make test-slow: the rest)
#   make check   format, lint and types, as in CI
#   make docs    the documentation site, in site/
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := .venv/installed
TORCH := $(shell sed -n 's/^torch==\([^ ;]*\).*/\1/p' constraints.txt)
CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: install options bench bench-busy bench-sesr bench-accuracy bench-parity bench-real-size demo demo-sesr test test-fast test-slow test-faults check docs reference build format clean
install: $(STAMP)

# Order matters. torch first: without a GPU its CPU build is taken where any index has it, because the
# usual one brings several GB of CUDA packages. torchvision without dependencies, so that it cannot
# replace that torch. setuptools before the rest, which is then built with this pinned version.
$(STAMP): setup.py pyproject.toml constraints.txt mobilesr_plugin/host/autoload.py
	@$(PYTHON) -c 'import sys; ok = (3, 10) <= sys.version_info[:2] < (3, 13); \
	sys.exit(None if ok else "Python 3.10, 3.11 or 3.12 is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(PIP) install -q -c constraints.txt setuptools wheel
	if nvidia-smi >/dev/null 2>&1; then $(PIP) install -q torch==$(TORCH); \
	else $(PIP) install -q torch==$(TORCH)+cpu 2>/dev/null \
	|| $(PIP) install -q torch==$(TORCH)+cpu --extra-index-url $(CPU_INDEX) \
	|| $(PIP) install -q torch==$(TORCH); fi
	$(PIP) install -q --no-deps -c constraints.txt torchvision
	$(PIP) install -q --no-build-isolation -c constraints.txt -e '.[export,npu,video,docs,dev]'
	$(PIP) check
	@touch $@

demo: $(STAMP)
	$(BIN)/python tools/demo.py

demo-sesr: $(STAMP)
	$(BIN)/python tools/demo.py sesr

# One process for each processor, up to four, and one thread in each; tests of one file stay together.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" $(PARALLEL)

# What one runs between two edits: no TensorFlow, no training; a minute at most.
test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "fast and not slow" $(PARALLEL)

# More variants of what `make test` runs, and what takes minutes.
test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(PARALLEL)

# Kills, lost processes, full disks, bad and hostile files, counted; half an hour. ROUNDS="--rounds 5 --cases 50"
# does less, SEED="--seed 1" something else.
test-faults: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tools/test_faults.py $(ROUNDS) $(SEED)

# The site, in site/; a warning is an error. Material warns of MkDocs 2, which setup.py excludes.
docs: reference
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Writes docs/cli.md and docs/options.md from the code.
reference: $(STAMP)
	$(BIN)/python tools/make_reference.py

# Writes options/ from tools/option_templates/.
options: $(STAMP)
	$(BIN)/python tools/make_options.py

# Size and latency of all SESR variants, then parity on the pictures in DATA, if given.
bench-sesr: $(STAMP)
	$(BIN)/mobilesr bench training-step --threads 2
	$(BIN)/python tools/bench_sesr.py --data $(DATA)

# The published ABPN x3 for int8, and what that costs: DATA is a folder with train_photos_480 and the test
# sets, REFERENCE one with the published weights. STUDY="--study --residuals" adds the ablations.
bench-accuracy: $(STAMP)
	$(BIN)/python tools/bench_accuracy.py --data $(DATA) --reference $(REFERENCE) $(STUDY)

# The figures that docs/benchmarks.md promises; PARTS="--parts latency export" measures some of them.
bench: $(STAMP)
	$(BIN)/python tools/bench.py --data $(or $(DATA),../shared/data) \
	--reference $(or $(REFERENCE),../shared/reference) $(PARTS)

# What a busy process beside it costs an export; the machine must be idle otherwise.
bench-busy: $(STAMP)
	$(BIN)/python tools/bench_busy_export.py

# Every value of the pictures in DATA (folders), on both sets of kernels, for many networks.
bench-parity: $(STAMP)
	$(BIN)/python tools/bench_parity.py --data $(DATA)

# Data of DIV2K's real size: 800 pictures, about 20 GB in FOLDER or in a temporary folder, removed afterwards.
bench-real-size: $(STAMP)
	$(BIN)/python tools/bench_real_size.py $(if $(FOLDER),--folder $(FOLDER))

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Wheel and source distribution, in dist/.
build: $(STAMP)
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

# Leaves data sets, experiments and results alone.
clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
