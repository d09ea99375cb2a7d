# Two commands do all the set-up on a fresh machine with Python 3.10 or newer: `make demo` and `make test`.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
TESTS  ?=
# tests wait for real processes more than they compute
WORKERS ?= 4
LABS    ?= 3
# strict: a link that leads nowhere is an error; the variable silences an advertisement
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs --quiet build --strict
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check docs site torture lab lab-test lab-torture lab-down bench dist clean

help:
	@echo "make demo      virtual environment, installation, a whole dataset on this machine, its result"
	@echo "make test      all tests but the long ones (TESTS='tests/unit -k planner' for some of them)"
	@echo "make check     ruff, mypy, imports, the pilot's Python, generated pages"
	@echo "make docs      write the generated pages of docs/ anew"
	@echo "make site      the documents as a web site, build/site/index.html"
	@echo "make torture   hundreds of kills by the wall clock, new seeds each time"
	@echo "make lab       two SLURM clusters to try things at (root, Debian): ssh -F /run/icp-lab/client/ssh_config nsa; make lab-down ends them"
	@echo "make lab-test  the tests that need a lab; they bring up sites of their own (ICP_LAB=1 make test: all others before)"
	@echo "make lab-torture  200 jobs at three sites while everything on the way dies at random"
	@echo "make bench     the figures of bench/"
	@echo "make dist      wheel, source distribution and the one file dist/icp.pyz"
	@echo "make clean     remove what was made here"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "icp needs Python 3.10 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1 || echo not there): make PYTHON=/path/to/a/newer/python3 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "$(PYTHON) cannot make a virtual environment: on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }

# compat: a plain path entry; the default's import hook would cost each start of icp 20 ms
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV) ..."
	@$(PIP) --editable . --config-settings editable_mode=compat
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV), with what tests and checks need ..."
	@$(PIP) --editable '.[test]' --config-settings editable_mode=compat
	@$(PIP) --no-deps iceprod==3.1.3 2>/dev/null || echo "IceProd's own parser is not to be had: the tests that ask it are skipped"
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml | $(BIN)/python
	@echo "installing into $(VENV), with what benchmarks compare with ..."
	@$(PIP) --editable '.[bench]' --config-settings editable_mode=compat
	@touch $@

demo: $(VENV)/.installed
	@$(BIN)/icp demo
	@echo "icp is $(CURDIR)/$(BIN)/icp here; type: source $(BIN)/activate"

# Real processes, and real batch systems even more, on a machine that is busy with all of them may be slower than any limit: what failed beside the others
# is tried once more by itself, in the open, and only what fails there too is a failure. Examples drawn by chance are the same ones again, so none gets a second chance.
ONCE_MORE = [ $$rc -ne 1 ] || { rc=0; echo "== by itself once more, what failed beside the others:"; $(1) -x -n 1 --last-failed --last-failed-no-failures none $(TESTS) || rc=$$?; }
TEST = env -u ICP_LAB $(BIN)/python -m pytest -q -m 'not torture$(if $(LONG),, and not long)'
LAB_TEST = ICP_LAB=1 $(BIN)/python -m pytest -q -m 'lab and not torture'
# each process with sites of its own; "no such tests" (5) is no failure
IN_LAB = rc=0; $(LAB_TEST) -n $(LABS) --dist worksteal $(TESTS) || rc=$$?; $(call ONCE_MORE,$(LAB_TEST)); [ $$rc -ne 5 ] || rc=0

# LONG=1, or with a lab: those too that kill the main job at every point of its way
LONG ?= $(ICP_LAB)
# ICP_LAB=1: those that need a lab afterwards
test: $(VENV)/.installed-test
	@rc=0; $(TEST) -n $(WORKERS) --dist worksteal $(TESTS) || rc=$$?; $(call ONCE_MORE,$(TEST)); \
	if [ "$${ICP_LAB:-}" = 1 ]; then first=$$rc; $(IN_LAB); [ $$first -eq 0 ] || rc=$$first; fi; exit $$rc

check: $(VENV)/.installed-test
	$(BIN)/ruff check --quiet --output-format concise .
	$(BIN)/mypy --no-error-summary
	$(BIN)/lint-imports --no-logo
	$(BIN)/vermin --quiet --no-tips --target=3.6- --violations icp/pilot
	$(BIN)/python tools/generated.py --check
	@$(MKDOCS) --site-dir build/site
	@echo "check: clean"

docs: $(VENV)/.installed-test
	@$(BIN)/python tools/generated.py

site: $(VENV)/.installed-test
	@$(MKDOCS) --site-dir build/site
	@echo "build/site/index.html"

torture: $(VENV)/.installed-test
	@$(BIN)/python -m pytest -q -m 'torture and not lab' --timeout 3600 $(TESTS)

lab:
	@WITH_DBD=1 tests/lab/install.sh
	@tests/lab/site-up.sh nsa 11 slurm 2 8
	@ACCT=dbd tests/lab/site-up.sh nsb 12 slurm 2 8

lab-down:
	@tests/lab/down.sh --purge

lab-test: $(VENV)/.installed-test
	@WITH_DBD=1 WITH_CONDOR=1 WITH_TORQUE=1 tests/lab/install.sh > /dev/null
	@$(IN_LAB); exit $$rc

lab-torture: $(VENV)/.installed-test
	@WITH_DBD=1 tests/lab/install.sh > /dev/null
	@ICP_LAB=1 $(BIN)/python -m pytest -q -m 'lab and torture' --timeout 5000 $(TESTS)

bench: $(VENV)/.installed-test $(VENV)/.installed-bench
	@for one in bench/*.py; do echo "== $$one"; $(BIN)/python $$one || exit 1; done

dist: $(VENV)/.installed-test
	@rm -rf dist
	@said=$$($(BIN)/python -m build --outdir dist . 2>&1) || { echo "$$said" >&2; exit 1; }
	@$(BIN)/python tools/one_file.py dist
	@ls -l dist

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
