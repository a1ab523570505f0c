# Everything a fresh machine needs is Python 3.11+ and make.
PYTHON ?= python3
PORT ?= 8000
# Of chaos, in test-scale.
SECONDS ?= 80
# Minutes of `make soak`.
DURATION ?= 60
# Run by uv in environments of their own: what serving and testing do not need is not installed.
AUDIT := pip-audit==2.10.1
BANDIT := bandit==1.9.4
MUTMUT := mutmut==3.8.1
SBOM := cyclonedx-bom==7.5.0
TWINE := twine==7.0.0
# Tests wait now and then, for a socket or a process: more of them than there are cores.
JOBS := $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) * 3 / 2)))
VENV := .venv
RUN := $(VENV)/bin/
PIP := $(RUN)python -m pip install --quiet --disable-pip-version-check
READY := $(VENV)/.ready

.PHONY: serve test test-postgres test-scale test-crash test-browser test-package test-deploy test-rules docs \
	screenshots lint types imports check coverage mutants bench soak lock audit sbom release-check clean

serve: $(READY)  ## run the service on 127.0.0.1:$(PORT)
	$(RUN)python -m ingest_service serve --port $(PORT)

test: $(READY)  ## run the unit and API tests, on all cores
	$(RUN)pytest -n $(JOBS) --dist worksteal

test-crash: $(READY)  ## kill it, cut its power, break its disk, be rude to it: four minutes
	$(RUN)pytest -n 2 --dist worksteal --timeout=300 tests/crash

test-browser: $(READY)  ## look at the pages with Debian's chromium
	$(RUN)pytest -n 2 --dist worksteal tests/browser/check_pages.py tests/browser/check_door.py tests/browser/check_dashboard.py tests/browser/check_dashboard_scale.py

docs: $(READY)  ## write anew what of the pages is made from the code
	$(RUN)python -m tests.docs

screenshots: $(READY)  ## make the pictures in docs/images
	$(RUN)python -m tests.browser.screenshots

test-postgres: $(READY)  ## the behaviour on PostgreSQL: INGEST_TEST_POSTGRES, or a server of its own
	$(RUN)pytest --postgres -n $(JOBS) --dist worksteal

test-scale: $(READY)  ## many replicas and workers, killed, frozen and cut off; SECONDS=600 for longer
	SECONDS=$(SECONDS) $(RUN)pytest --timeout=1800 tests/scale

test-package: $(READY)  ## build it, install it with its oldest and its newest requirements, use it
	$(RUN)pytest --timeout=300 tests/package

test-deploy: $(READY)  ## the units, the image, the containers and the proxies, with Debian's nginx-light and systemd
	$(RUN)pytest -n 2 --dist loadfile --timeout=300 tests/deploy

test-rules:  ## check the alert rules, and when each fires, with the promtool of Debian's prometheus
	promtool check config deploy/prometheus/prometheus.yml deploy/prometheus/compose.yml
	promtool test rules deploy/prometheus/alerts_test.yml

lint: $(READY)
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)uv tool run --quiet $(BANDIT) --quiet --configfile pyproject.toml --recursive ingest_service
	$(RUN)codespell ingest_service tests benchmarks docs *.md

types: $(READY)
	$(RUN)mypy

imports: $(READY)
	$(RUN)lint-imports

check: lint types imports test  ## everything that is fast

coverage: $(READY)  ## branches of the core that its tests go through: at least 95 %
	$(RUN)pytest -n $(JOBS) --dist worksteal --cov --cov-report=term tests/domain tests/engines/embedded tests/service

mutants: $(READY)  ## change the scheduling, pace and settlement in small ways: at least 85 % must be seen
	$(RUN)python -m pip install --quiet --disable-pip-version-check $(MUTMUT)
	$(RUN)mutmut run
	$(RUN)mutmut export-cicd-stats
	$(RUN)python -m tests.mutants

bench: $(READY)  ## print tables of ratios, measured now; BENCH=--json for programs
	$(RUN)python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(RUN)python -m benchmarks $(BENCH)

soak: $(READY)  ## work for an hour (DURATION minutes) and compare its last quarter with the first
	$(RUN)python -m benchmarks soak $(DURATION)

lock: $(READY)  ## pin what requirements.in asks for, and all that this needs, with hashes
	$(RUN)uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
		--custom-compile-command "make lock" --output-file requirements.txt requirements.in

audit: $(READY)  ## look up known vulnerabilities of what is pinned
	@if $(RUN)python -c "import urllib.request as r; \
		assert b'\"vulnerabilities\"' in r.urlopen('https://pypi.org/pypi/pip/25.0/json', timeout=10).read()" \
		2>/dev/null; \
	then $(RUN)uv tool run --quiet $(AUDIT) --strict --disable-pip --require-hashes -r requirements.txt; \
	else echo "make audit: skipped, no index of advisories can be reached from here."; fi

sbom: $(READY)  ## list what is pinned as CycloneDX, in dist/sbom.json
	mkdir -p dist
	$(RUN)uv tool run --quiet --from $(SBOM) cyclonedx-py requirements --of JSON \
		-o dist/sbom.json requirements.txt

release-check: $(READY) sbom  ## build what is published, check it, install it, use it on both engines
	rm -f dist/*.whl dist/*.tar.gz
	$(RUN)uv build --quiet --out-dir dist
	$(RUN)uv tool run --quiet $(TWINE) check --strict dist/*.whl dist/*.tar.gz
	$(RUN)pytest --timeout=300 tests/package

clean:
	rm -rf $(VENV)

# Made anew whenever the pinned requirements change. The checkout is installed as it is, so that the
# command and the client are there in every folder: with the setuptools that is pinned, and as a path,
# because a finder would cost every start of Python 20 ms.
$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	$(PIP) --no-index --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	touch $@
