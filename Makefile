# make train   set up and train the demo encoder        make test    set up and run every test
# make check   ruff, mypy, import-linter                make clean   remove the virtual environment
# make bench   measure what this machine can within BUDGET_S seconds, records and a page to runs/bench/

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
BUDGET_S ?= 480
# Processes that share the tests, a file at a time; each needs some 3 GB with what its tests start. 0: this one alone.
TEST_PROCESSES ?= 2
BENCH := runs/bench/$(shell date -u +%Y-%m-%d-%H%M%S)
# Without a GPU, and on a CPU that only imitates bf16, fp32 is several times faster.
HAS_BF16 := $(shell ls /dev/nvidia[0-9]* 2>/dev/null || grep -m1 -woE 'avx512_bf16|amx_bf16' /proc/cpuinfo 2>/dev/null)
DS_CONFIG ?= ds_configs/$(if $(HAS_BF16),zero2,zero2_fp32).json

.PHONY: train test check bench clean
.DELETE_ON_ERROR:

# One stamp per set of dependencies: a second `make` installs nothing.
$(VENV)/train.stamp: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e . -c constraints.txt
	touch $@

$(VENV)/dev.stamp: setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]' -c constraints.txt
	touch $@ $(VENV)/train.stamp

train: $(VENV)/train.stamp
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/deepspeed skill_fast/train.py --ds_config $(DS_CONFIG) $(ARGS)

check: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

test: check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not gpu" -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(ARGS)

# The page is drawn whatever became of the rows; their exit code is what make ends with.
bench: $(VENV)/dev.stamp
	code=0; $(BIN)/python -m benchmarks.bench --budget-s $(BUDGET_S) --out $(BENCH) $(ARGS) || code=$$?; \
	$(BIN)/python -m benchmarks.report --records $(BENCH) --html $(BENCH)/report.html && exit $$code

clean:
	rm -rf $(VENV) build *.egg-info
