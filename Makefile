# Everything a fresh machine needs is Python 3.11+ and make.
PYTHON ?= python3
PORT ?= 8000
VENV := .venv
RUN := $(VENV)/bin/
READY := $(VENV)/.ready

.PHONY: serve test test-crash test-browser test-rules lint types imports check bench clean

serve: $(READY)  ## run the service on 127.0.0.1:$(PORT)
	PORT=$(PORT) $(RUN)gunicorn wsgi:app

test: $(READY)  ## run the unit and API tests, on all cores
	$(RUN)pytest -n auto

test-crash: $(READY)  ## kill it, cut its power, break its disk, be rude to it: four minutes
	$(RUN)pytest --timeout=300 tests/crash

test-browser: $(READY)  ## look at the pages with Debian's chromium
	$(RUN)pytest tests/browser/check_pages.py tests/browser/check_door.py

test-rules:  ## check the alert rules, and when each fires, with the promtool of Debian's prometheus
	promtool check config deploy/prometheus/prometheus.yml
	promtool test rules deploy/prometheus/alerts_test.yml

lint: $(READY)
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)codespell ingest_service tests benchmarks docs README.md CHANGELOG.md

types: $(READY)
	$(RUN)mypy

imports: $(READY)
	$(RUN)lint-imports

check: lint types imports test  ## everything that is fast

bench: $(READY)  ## print tables of ratios, measured now; BENCH=--json for programs
	$(RUN)python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(RUN)python -m benchmarks $(BENCH)

clean:
	rm -rf $(VENV)

# Made anew whenever the pinned requirements change.
$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
