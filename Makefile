# Needs Python 3.11 or newer with venv, and make. `make` alone lists what there is.
PYTHON ?= python3
PORT ?= 8000
ARGS ?=

VENV := .venv
PY := $(VENV)/bin/python
STAMP = $(shell command -v $(PY) >/dev/null 2>&1 && echo $(PY) || echo $(PYTHON))

.DEFAULT_GOAL := help
.PHONY: help book test test-long lab serve clean fork format lint assignments

help:  ## list the targets
	@echo "make <target>:"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-11s %s\n", $$1, $$2 }'

book: $(VENV)/.book  ## build the book into _build/html (only what changed is executed)
	@$(PY) tools/build.py

test: $(VENV)/.dev book  ## build, then check and test everything quick; ARGS="-k name" selects
	@$(PY) tools/gate.py
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m pytest -n 2 --dist loadgroup -m "not long" $(ARGS)

test-long: $(VENV)/.dev book  ## the tests that take longer; ARGS="-k name" selects
	@$(PY) -m pytest -m long $(ARGS)

lab: $(VENV)/.book  ## open the chapters in JupyterLab, to run and to change them
	@$(PY) -m jupyterlab book

serve: book  ## build and serve on this machine only (PORT=8000)
	@echo "http://127.0.0.1:$(PORT)  (Ctrl-C ends it)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

fork:  ## give the book your address: make fork REPO=https://github.com/me/mine [BRANCH=main]
	@test -n "$$REPO" || { echo "Say which: make fork REPO=https://github.com/me/mine"; exit 2; }
	@$(STAMP) tools/stamp.py --fork "$$REPO" $${BRANCH:+--branch "$$BRANCH"}

assignments: $(VENV)/.dev  ## masters to student notebooks; SECRET_FILE=course.secret for your own course
	@$(PY) -m assignments.marking release $${SECRET_FILE:+--secret-file "$$SECRET_FILE"}

format: $(VENV)/.dev  ## let ruff fix and format
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

lint: $(VENV)/.dev  ## ruff, the notebook gate and the stamps, without building
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) tools/gate.py

clean:  ## remove what was built (the environment stays; rm -r .venv removes that)
	rm -rf _build build dist *.egg-info .pytest_cache .ruff_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; sys.exit(sys.version_info < (3, 11) and "This book needs Python 3.11 or newer; $(PYTHON) is Python " + v + ". Try: make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make environments: install its venv module (Debian: apt install python3-venv)."; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.book: requirements.txt pyproject.toml | $(VENV)/.python
	@echo "Installing what the book needs, once (minutes: PyTorch is large) ..."
	@$(PY) -m pip install -q --disable-pip-version-check -r requirements.txt
	@$(PY) -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.book
	@echo "Installing what the tests need, once ..."
	@$(PY) -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	@touch $@
