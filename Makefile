# Two commands do everything: `make lab` to take the course, `make test` to check it.

SHELL := /bin/sh
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
IN_VENV := .venv/bin
LAB_OPTIONS ?=

.PHONY: help lab test soak notebooks labs bench system environment

help:
	@echo 'make lab        the environment, then JupyterLab at chapter 00'
	@echo 'make test       the tests: library, lessons in strict nbval, JupyterLab in a browser'
	@echo 'make soak       what takes long: large classes, all answers, every notebook 20 times'
	@echo 'make notebooks  run every notebook again and save it, normalised'
	@echo 'make labs       generate labs/ from solutions/, and run the notebooks of both'
	@echo 'make bench      the solutions beside nginx and others: a table and a chart in docs/'
	@echo 'make system     install the system packages of apt.txt and apt-test.txt that are missing'

lab: environment
	PATH="$(CURDIR)/$(IN_VENV):$$PATH" exec $(IN_VENV)/jupyter lab $(LAB_OPTIONS) notebooks/00_start_here.ipynb

test: environment
	$(IN_VENV)/python tools/run_tests.py

soak: environment
	$(IN_VENV)/python -m pytest -q -m soak tests
	$(IN_VENV)/python tools/soak.py

notebooks: environment
	$(IN_VENV)/python tools/save_notebooks.py

labs: environment
	$(IN_VENV)/python tools/make_labs.py

bench: environment
	$(IN_VENV)/python tools/bench/run.py

system:
	@sh tools/install_system_packages.sh

environment:
	@test -n '$(PYTHON)' || { echo 'Python 3.11 or newer is needed: install it, or name it with make PYTHON=...'; exit 1; }
	@$(PYTHON) tools/make_environment.py
