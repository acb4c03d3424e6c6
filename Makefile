# make train   set up and train the demo encoder        make test    set up and run every test
# make check   ruff, mypy, import-linter                make clean   remove the virtual environment

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# Without a GPU, and on a CPU that only imitates bf16, fp32 is several times faster.
HAS_BF16 := $(shell ls /dev/nvidia[0-9]* 2>/dev/null || grep -m1 -woE 'avx512_bf16|amx_bf16' /proc/cpuinfo 2>/dev/null)
DS_CONFIG ?= ds_configs/$(if $(HAS_BF16),zero2,zero2_fp32).json

.PHONY: train test check clean
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
	$(BIN)/python -m pytest -q -m "not gpu" $(ARGS)

clean:
	rm -rf $(VENV) build *.egg-info
