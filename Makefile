PYTHON ?= python3
BIN    := .venv/bin
GRADE  := build/grade
ZERO_SHOT := --images fixtures/hw2_data/clip_zeroshot/val --labels fixtures/hw2_data/clip_zeroshot/id2label.json
FACE   := --noise fixtures/hw2_data/face/noise --checkpoint hw2/models/face_unet.safetensors

.DEFAULT_GOAL := help
.PHONY: help setup grade report test test-all suite quick lint format gpu-test wheel-test fixtures bench docs pins clean

# The versions that were tested. `make setup LATEST=1` takes the newest instead. TORCH_INDEX is where PyTorch comes from,
# such as https://download.pytorch.org/whl/cpu for machines without a GPU.
INSTALL := pip install --quiet --disable-pip-version-check $(if $(LATEST),--upgrade,--constraint constraints.txt)

# The formulas: what `make quick` runs, in two processes, because each imports for 20 seconds.
QUICK := tests/hw2/diffusion tests/hw2/files tests/grading/core tests/grading/points \
  $(addprefix tests/grading/problems/test_,metrics.py missing.py suspicions.py complete.py faces.py)

# A worker takes whole files, in the order of tests/conftest.py.
TESTS = $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Most tests wait for other processes, so that one more than there are cores are run at a time; each takes about 1 GB.
CORES   := $(shell nproc)
WORKERS ?= $(shell echo $$(($(CORES) < 8 ? $(CORES) + 1 : 8)))

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/.ready ## create .venv and install everything into it (a few minutes, once)
.venv/.ready: pyproject.toml constraints.txt
	+@test -x $(BIN)/pip || $(PYTHON) -m venv --clear .venv || exit 2
	+@echo "Installing into .venv; torch is large, so the first time takes a few minutes ..." >&2
	+@test -z "$(TORCH_INDEX)" || $(BIN)/$(INSTALL) --index-url "$(TORCH_INDEX)" torch torchvision || exit 2
	+@$(BIN)/$(INSTALL) --editable '.[dev]' && touch $@ || exit 2

# The pictures are drawn in what the reference submission leaves of the cores: two at a time, with few threads, and nice.
THREADS := $(shell echo $$(($(CORES) > 4 ? $(CORES) / 4 : 1)))

# make normally turns every failure into exit status 2. In question mode (-q), a recipe line marked '+' still runs and
# keeps its exit status 1. So `make grade`, as the only goal, ends with the grader's verdict: 0 (pass), 1 (fail) or
# 2 (error). Every other line ends with 2 if it fails.
ifeq ($(MAKECMDGOALS),grade)
MAKEFLAGS += -q
endif
grade: .venv/.ready ## run the reference submission on the embedded default, grade it, print the table
	+@rm -rf $(GRADE) && mkdir -p $(GRADE) || exit 2
	+@MAKEFLAGS= $(MAKE) --no-print-directory -j 3 $(GRADE)/verdict $(PICTURES) || exit 2
	+@exit $$(cat $(GRADE)/verdict)

PICTURES := $(addprefix $(GRADE)/,digits_reverse.png faces_interpolation.png faces_eta.png zero_shot digits_grid.png)
$(PICTURES): DRAW = OMP_NUM_THREADS=$(THREADS) nice -n 19 $(BIN)/hw2 --quiet
$(GRADE)/faces_eta.png: ; @$(DRAW) faces eta-grid $(FACE) --output $@ && $(DRAWN)
$(GRADE)/faces_interpolation.png: ; @$(DRAW) faces interpolate $(FACE) --output $@ && $(DRAWN)
$(GRADE)/digits_grid.png: ; @$(DRAW) digits grid --output $@ && $(DRAWN)
# A quarter of the steps of the slides, for the sake of time; nothing of it is graded.
$(GRADE)/digits_reverse.png: ; @$(DRAW) digits reverse --num-inference-steps 250 --output $@ && $(DRAWN)
$(GRADE)/zero_shot: ; @$(DRAW) concepts zero-shot $(ZERO_SHOT) --output $@ && $(DRAWN)
DRAWN = echo "$@ is made" >&2

# Its exit status, 0 to 2, is kept in the file.
$(GRADE)/verdict:
	@echo "The reference submission is our own code, so it runs without a sandbox (--trust)." >&2
	@$(BIN)/hw2-grade submission fixtures/submissions/reference --data fixtures/hw2_data --judges embedded --trust \
	  --unet hw2/models/face_unet.safetensors --stable-diffusion hw2/models/small_sd --output $(GRADE)/reference; \
	  verdict=$$?; test $$verdict -le 2 && echo $$verdict > $@

report: .venv/.ready ## draw and explain every figure of the homework's report: build/report/report.html
	@$(BIN)/hw2 report --output build/report

# Idle threads sleep. These run several processes at a time, and spinning threads would take cores from each other.
grade test test-all suite quick gpu-test report: export OMP_WAIT_POLICY = PASSIVE
# To wake a second thread for a tiny network takes longer than its work: each worker has its share of the cores.
test test-all suite quick: export OMP_NUM_THREADS = $(shell echo $$(($(CORES) > $(WORKERS) ? $(CORES) / $(WORKERS) : 1)))
# The checks run beside the tests: what they print is shown when they end, while the tests' progress is shown at once ('+').
test: .venv/.ready ## check style, types and import contracts, and run the whole test suite
	+@$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync lint suite ONLY='-m "not long"'

test-all: .venv/.ready ## the same, and the tests that repeat shorter ones at real size (CI runs them daily)
	+@$(MAKE) --no-print-directory --jobs 2 --keep-going --output-sync lint suite

suite: .venv/.ready
	+@MAKEFLAGS= $(TESTS) $(ONLY)

quick: lint ## check style and types, and run the tests of the formulas (a minute and a half)
	@$(BIN)/pytest -n 2 --dist worksteal -m "not slow and not long" $(QUICK)

wheel-test: .venv/.ready ## build the wheel, install it with all extras into a clean environment, and use it there
	@$(BIN)/python -m tests.wheel

lint: .venv/.ready ## check style, types and import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/.ready ## format the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

gpu-test: .venv/.ready ## examine the GPU, and run the tests that need one
	@$(BIN)/hw2 doctor --device cuda
	@$(BIN)/pytest -m gpu

fixtures: .venv/.ready ## train the bundled models and make the ground truth again
	@$(BIN)/python -m fixtures.making.regenerate

bench: .venv/.ready ## measure speed and memory, each compared with its lower bound
	@$(BIN)/python -m tests.benchmarks

docs: .venv/.ready ## build the site with the API reference into build/site
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@$(BIN)/mkdocs build --strict --quiet

# PyTorch and CUDA are bounded, not fixed: a machine takes those that fit its driver.
pins: .venv/.ready ## write the versions installed in .venv into constraints.txt
	@$(BIN)/pip list --format freeze --exclude-editable | grep -vE '^(pip|setuptools|torch|torchvision|triton|nvidia-|cuda-)' \
	  > constraints.txt
	@$(BIN)/python -c "import importlib.metadata as m; \
	  [print(f'{p}<{v[0]}.{int(v[1]) + 1}') for p in ('torch', 'torchvision') for v in [m.version(p).split('.')]]" >> constraints.txt

clean: ## remove everything that was built, including .venv
	@rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .tox
