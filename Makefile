# Two commands on a fresh machine: `make demo` and `make test`. Both set up their environment first.
PYTHON ?= python3
BIN = .venv/bin
STUDY ?= studies/demo
APP ?= 1
export HF_HUB_DISABLE_TELEMETRY = 1
export WANDB_MODE = disabled

.PHONY: demo test check install benchmarks

demo: .venv/installed ## train, label, measure, steer and graph on the shipped model; then open the app (APP=0: do not)
	$(BIN)/workbench demo $(STUDY)
ifneq ($(APP),0)
	$(BIN)/workbench app $(STUDY)
endif

test: .venv/installed ## every check and every test, notebooks included
	sh scripts/chromium
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

check: .venv/installed ## the fast part: style, imports, and the tests that need no browser and no notebook
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder -m "not browser and not notebook"

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
