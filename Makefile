# Two commands on a fresh machine: `make demo` and `make test`. Both set up their environment first, and so does
# `make real`.
PYTHON ?= python3
BIN = .venv/bin
STUDY ?= studies/demo
APP ?= 1
PYTEST = $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder
export HF_HUB_DISABLE_TELEMETRY = 1
export WANDB_MODE = disabled

.PHONY: help demo real published test check style types format docs install

help: ## list these commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

demo: .venv/installed ## train, label, measure, steer and graph on the shipped model; then open the app (APP=0: do not)
	$(BIN)/workbench demo $(STUDY)
ifneq ($(APP),0)
	$(BIN)/workbench app $(STUDY)
endif

real: .venv/installed ## the same on a real chat model: fetch SmolLM2, run jobs/smollm2.toml, open the app (APP=0: do not)
	$(BIN)/workbench fetch smollm2
	$(BIN)/workbench study studies/smollm2 --job jobs/smollm2.toml
ifneq ($(APP),0)
	$(BIN)/workbench app studies/smollm2
endif

published: .venv/installed ## make the study of SmolLM2 that ships anew, from nothing (an hour and more)
	$(BIN)/workbench fetch smollm2 minilm
	$(BIN)/workbench study studies/smollm2 --job jobs/smollm2.toml
	$(BIN)/workbench study studies/smollm2 --job jobs/smollm2-systems.toml
	rm -f workbench/material/studies/smollm2.duckdb
	$(BIN)/workbench publish studies/smollm2 workbench/material/studies/smollm2.duckdb --contexts 4 --without activations --without neurons --without topic_ratings --without coactivations \
		--note "SmolLM2-135M-Instruct: \`make real\` makes this study on your machine, with its weights, in studies/smollm2; there it can be steered."

test: style types ## every check and every test, notebooks included
	sh scripts/chromium
	-$(BIN)/workbench fetch smollm2
	$(PYTEST)

check: style types ## style, types, imports, and the tests but those of browser, notebooks and minutes
	$(PYTEST) -m "not browser and not notebook and not slow_file and not slow and not gpu"

style: .venv/installed ## layout, lint and the contracts of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: .venv/installed ## mypy over the three packages and the app
	$(BIN)/python -m mypy

format: .venv/installed ## lay out the code and mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/installed ## write docs/reference from the code
	$(BIN)/python -m tools.write_docs

install: .venv/installed ## the environment alone

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@
