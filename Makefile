# Everything a fresh machine needs is Python 3.11+ and make.
PYTHON ?= python3
PORT ?= 8000
# Of chaos, in test-scale.
SECONDS ?= 80
# Minutes of `make soak`.
DURATION ?= 60
VENV := .venv
RUN := $(VENV)/bin/
READY := $(VENV)/.ready

.PHONY: serve test test-postgres test-scale test-crash test-browser test-package test-rules screenshots \
	lint types imports check bench soak clean

serve: $(READY)  ## run the service on 127.0.0.1:$(PORT)
	$(RUN)python -m ingest_service serve --port $(PORT)

test: $(READY)  ## run the unit and API tests, on all cores
	$(RUN)pytest -n auto

test-crash: $(READY)  ## kill it, cut its power, break its disk, be rude to it: four minutes
	$(RUN)pytest -n 2 --dist worksteal --timeout=300 tests/crash

test-browser: $(READY)  ## look at the pages with Debian's chromium
	$(RUN)pytest tests/browser/check_pages.py tests/browser/check_door.py tests/browser/check_dashboard.py tests/browser/check_dashboard_scale.py

screenshots: $(READY)  ## make the pictures in docs/images
	$(RUN)python -m tests.browser.screenshots

test-postgres: $(READY)  ## the behaviour on PostgreSQL: INGEST_TEST_POSTGRES, or a server of its own
	$(RUN)pytest --postgres -n auto

test-scale: $(READY)  ## many replicas and workers, killed, frozen and cut off; SECONDS=600 for longer
	SECONDS=$(SECONDS) $(RUN)pytest --timeout=1800 tests/scale

test-package: $(READY)  ## build it, install it with its oldest and its newest requirements, use it
	$(RUN)pytest --timeout=300 tests/package

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

soak: $(READY)  ## work for an hour (DURATION minutes) and compare its last quarter with the first
	$(RUN)python -m benchmarks soak $(DURATION)

clean:
	rm -rf $(VENV)

# Made anew whenever the pinned requirements change.
$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@
