# Two commands do everything: `make lab` to take the course, `make test` to check it.

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null && echo $$p && break; done)
IN_VENV := .venv/bin
LAB_OPTIONS ?=
# An address and not a file: JupyterLab would show no other folder than the file's.
OPENED := --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb
MUTANTS_OPTIONS ?=
# JupyterLab asks root for this option, and root on a machine of one's own is a usual case.
AS_ROOT := $(shell test "$$(id -u)" != 0 || echo --allow-root)
# SYSTEM=no: install no system packages.
SYSTEM ?=
INSTALL = SYSTEM='$(SYSTEM)' PYTHON='$(PYTHON)' sh tools/install_system_packages.sh
LISTS_FOR_TESTS = apt.txt apt-test.txt

.PHONY: help lab test quick fresh soak mutants notebooks labs bench site site-test system for-lab for-tests for-site environment
.NOTPARALLEL:

help:
	@echo 'make lab        the environment, your workspace, then JupyterLab at chapter 00'
	@echo 'make test       the tests: library, lessons in strict nbval, JupyterLab in a browser'
	@echo 'make quick      the linters, the types, the tests of what you changed, and one lesson'
	@echo 'make fresh      the two commands above on a new small system that debootstrap makes'
	@echo 'make soak       what takes long: large classes, all answers, every notebook 20 times'
	@echo 'make mutants    change the solutions in small ways, and list what no check notices'
	@echo 'make notebooks  run every notebook again and save it, normalised'
	@echo 'make labs       generate labs/ from solutions/, and run the notebooks of both'
	@echo 'make bench      the solutions beside nginx and others: a table and a chart in docs/'
	@echo 'make site       the course as web pages, in site/: open site/index.html in a browser'
	@echo 'make site-test  build the site and look at it in a browser, in light and dark'
	@echo 'make system     install the system packages of apt.txt and apt-test.txt that are missing'
	@echo
	@echo 'lab and test install system packages where nothing has to be asked; SYSTEM=no: never'

lab: for-lab environment
	@$(IN_VENV)/streamlab workspace
	cd workspace && PATH="$(CURDIR)/$(IN_VENV):$$PATH" exec "$(CURDIR)/$(IN_VENV)/jupyter" lab $(AS_ROOT) $(OPENED) $(LAB_OPTIONS)

TEST_OPTIONS ?=
test: for-tests environment
	$(IN_VENV)/python tools/run_tests.py $(TEST_OPTIONS)

quick: environment
	$(IN_VENV)/python tools/run_tests.py --quick

FRESH_OPTIONS ?=
fresh: for-tests
	$(PYTHON) tools/fresh.py $(FRESH_OPTIONS)

soak: for-tests environment
	$(IN_VENV)/python -m pytest -q -m soak tests
	$(IN_VENV)/python tools/run_kernels.py
	$(IN_VENV)/python tools/run_pythons.py
	$(IN_VENV)/python tools/soak.py
	$(IN_VENV)/python tools/soak.py --runs 2 --load burning --load bursts tests/*/test_*.py tests/test_*.py
	$(PYTHON) tools/fresh.py

mutants: for-lab environment
	$(IN_VENV)/python tools/mutants.py $(MUTANTS_OPTIONS)

notebooks: for-lab environment
	$(IN_VENV)/python tools/save_notebooks.py
	$(IN_VENV)/python tools/website/myths.py

labs: for-lab environment
	$(IN_VENV)/python tools/make_labs.py

bench: for-tests environment
	$(IN_VENV)/python tools/bench/run.py

site: for-lab for-site
	$(IN_VENV)/python tools/website/build_site.py

site-test: for-tests for-site
	$(IN_VENV)/python -m pytest -q tests/site

system:
	@$(INSTALL) $(LISTS_FOR_TESTS)

# Before the environment, because Python's venv may be one of the packages.
for-lab:
	@$(INSTALL) --if-free apt.txt

for-tests:
	@$(INSTALL) --if-free $(LISTS_FOR_TESTS)

environment:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 to 3.14 is needed: install one, or name another one with make PYTHON=...'; exit 1; }
	@$(PYTHON) tools/make_environment.py

for-site: environment
	@$(PYTHON) tools/make_environment.py site
