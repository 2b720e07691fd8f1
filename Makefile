# Everything a newcomer needs. `make demo` and `make test` set up what they need first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv, pinned; it installs exactly what uv.lock says
UV_VERSION := 0.13.9
UV := .uv/bin/uv

.PHONY: help setup servers browser demo test test-browser test-systemd check lint types bench-http bench-judge bench-logs bench-browser campaign clean

help:               ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(VENV)/ready  ## Make the virtual environment from the lock file

$(VENV)/ready: uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Tillwatch needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || sh tools/debian.sh python3-venv
	@test -x $(UV) || ($(PYTHON) -m venv .uv && .uv/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION))
	@UV_PROJECT_ENVIRONMENT=$(VENV) UV_SYSTEM_CERTS=1 $(UV) sync --frozen --quiet
	@touch $@

servers:            ## Install the Debian packages that the tests start (as root)
	@sh tools/debian.sh prometheus prometheus-alertmanager systemd-container python3-venv iproute2 fiu-utils openssl nginx-light chromium-headless-shell firefox-esr logrotate systemd-journal-remote

demo: setup browser ## Play the whole story on this machine, in about two minutes
	@$(BIN)/tillwatch demo

browser: setup      ## See to it that there is a browser: Debian's as root, else Playwright's own build
	@sh tools/browser.sh $(BIN)

# Most tests wait most of the time: what computes, what a browser does and what reads logs runs beside them, behind them in line for the processor.
test: setup servers ## Run all tests
	@(nice -n 19 $(BIN)/pytest -p no:cacheprovider tests/judge; judge=$$?; \
	  nice -n 5 $(BIN)/pytest -p no:cacheprovider tests/checkout tests/error_log; exit $$((judge | $$?))) > .tests-beside.log 2>&1 & beside=$$!; \
	$(BIN)/pytest --ignore=tests/judge --ignore=tests/checkout --ignore=tests/error_log; rest=$$?; \
	wait $$beside; beside=$$?; cat .tests-beside.log; exit $$((rest | beside))

test-systemd: setup servers  ## The units on a systemd booted in a container (as root), the slow tests too
	@TILLWATCH_SLOW_TESTS=1 $(BIN)/pytest tests/systemd

test-browser: setup servers browser  ## The browser killed and stopped at every step, cancelled 200 times (about 10 minutes)
	@TILLWATCH_SLOW_TESTS=1 $(BIN)/pytest tests/checkout/test_browser_faults.py tests/checkout/test_keeper.py tests/checkout/test_browser_server.py

lint: setup         ## ruff
	@$(BIN)/ruff check .

types: setup        ## mypy --strict on monitor and probes
	@$(BIN)/mypy

check: lint types test  ## All that CI checks

campaign: setup     ## Kill the daemon a thousand times under flapping probes (about 8 minutes)
	@$(BIN)/python bench/kills.py

bench-http: setup   ## CPU per http probe beside Prometheus and blackbox_exporter (see bench/README.md)
	@sh tools/debian.sh prometheus prometheus-blackbox-exporter nginx-light
	@$(BIN)/python bench/http_peers.py

bench-judge: setup  ## The judge beside others on the open histories in DATA=DIR, into docs/judge.md (about 5 minutes)
	@UV_PROJECT_ENVIRONMENT=$(VENV) UV_SYSTEM_CERTS=1 $(UV) sync --frozen --quiet --group bench
	@$(BIN)/python bench/judge/run.py --data $(DATA) --docs docs/judge.md

bench-logs: setup   ## Error logs beside mtail, ripgrep and drain3; rotations and kills; a burst (about 15 minutes)
	@sh tools/debian.sh mtail ripgrep logrotate
	@UV_PROJECT_ENVIRONMENT=$(VENV) UV_SYSTEM_CERTS=1 $(UV) sync --frozen --quiet --group peers
	@$(BIN)/python bench/logs/scanners.py /tmp/tillwatch-logs
	@$(BIN)/python bench/logs/grouping.py
	@$(BIN)/python bench/logs/burst.py
	@for how in create compress copytruncate; do $(BIN)/python bench/logs/lives.py --how $$how || exit 1; done

bench-browser: setup servers browser  ## Checkout flows beside @elastic/synthetics and Playwright on Node; 1,000 flows (about 35 minutes; needs npm)
	@$(BIN)/python bench/browser/peers.py --runs 8 --turns 3
	@$(BIN)/python bench/browser/leaks.py --flows 1000

clean:              ## Remove what was made
	rm -rf $(VENV) .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis
