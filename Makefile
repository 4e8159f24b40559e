# Everything is built in .venv, which `make clean` removes. Nothing but make and a Python is needed.

PORT ?= 8000
PYTHON ?=
ARGS ?=
RUN ?= -m pytest
WORKERS ?= 1
REDIS_URL ?=

BIN := .venv/bin
MADE := .venv/made
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo chat test check dev clean

help:
	@echo 'make demo    run the example on http://127.0.0.1:$(PORT)/ (PORT=8000 unless given)'
	@echo 'make chat    run the chat there, with WORKERS=4 REDIS_URL=redis://127.0.0.1 in four processes'
	@echo 'make test    run the tests (ARGS="tests/db -k commit" for some of them)'
	@echo 'make check   run every gate: tests on each Python found, floors, lint, types, docs, build'
	@echo 'make dev     install the tools that developers use into .venv'
	@echo 'make clean   remove what these commands made'
	@echo 'PYTHON=/path/to/python chooses the Python; any from 3.11 on will do.'

demo: $(MADE)/demo
	@echo 'The example is on http://127.0.0.1:$(PORT)/ and Ctrl+C ends it.'
	@exec $(BIN)/python -m uvicorn examples.catalogue.app:app --host 127.0.0.1 --port $(PORT)

ifneq ($(REDIS_URL),)
chat: export CHAT_REDIS_URL := $(REDIS_URL)
endif
chat: $(MADE)/demo
ifneq ($(WORKERS),1)
	@test -n "$$CHAT_REDIS_URL" || { echo 'Several workers need a Redis: make chat WORKERS=$(WORKERS)' \
		'REDIS_URL=redis://127.0.0.1' >&2; exit 1; }
endif
	@echo 'The chat is on http://127.0.0.1:$(PORT)/ and Ctrl+C ends it.'
	@exec $(BIN)/python -m uvicorn examples.chat.app:app --host 127.0.0.1 --port $(PORT) --workers $(WORKERS)

test: $(MADE)/test
	$(BIN)/python $(RUN) -n auto $(ARGS)

check: $(MADE)/nox
	$(BIN)/nox $(ARGS)

dev: $(MADE)/dev

clean:
	rm -rf .venv .nox dist .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(MADE)/demo: GROUPS := demo
$(MADE)/test: GROUPS := demo drivers companions integration test
$(MADE)/nox: GROUPS := nox
$(MADE)/dev: GROUPS := dev

$(MADE)/demo $(MADE)/test $(MADE)/dev: $(MADE)/venv pyproject.toml
	@echo 'Installing fastkit and what "make $(@F)" needs into .venv'
	@$(PIP) install --editable '.[all]' $(GROUPS:%=--group %)
	@touch $@

$(MADE)/nox: $(MADE)/venv pyproject.toml
	@echo 'Installing the runner of the gates into .venv'
	@$(PIP) install $(GROUPS:%=--group %)
	@touch $@

# A Python is taken if it runs, is new enough and can make an environment: Debian's can only with
# its package python3-venv, and a pyenv shim runs only while its version is active.
$(MADE)/venv:
	@problem='$(if $(PYTHON),$(PYTHON) does not run,none is installed)'; \
	for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3.14 python3 python); do \
		found=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) \
			|| continue; \
		if ! $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
			problem="$$python is $$found"; \
		elif ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
			problem="$$python ($$found) lacks ensurepip: install python3-venv, on Debian and Ubuntu"; \
		else \
			echo "Making .venv with $$python ($$found)"; \
			rm -rf .venv && $$python -m venv .venv \
				&& $(PIP) install --upgrade 'pip>=25.1' && mkdir -p $(@D) && touch $@; \
			exit; \
		fi; \
	done; \
	echo "fastkit needs Python 3.11 or newer, and $$problem." \
		"Install one, or name it: make PYTHON=/path/to/python" >&2; \
	exit 1
