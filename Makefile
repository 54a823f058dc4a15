# Inverdict's commands. On a fresh machine start with `make demo` or `make test`: both run the setup first.

PYTHON ?= $(shell command -v python3.11 || echo python3)
# Index of torch's CPU build, used where neither the package index nor PIP_FIND_LINKS has it.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
FLAVOUR ?= $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)

VENV := .venv
BIN := $(VENV)/bin
UV := UV_FIND_LINKS="$(PIP_FIND_LINKS)" VIRTUAL_ENV=$(VENV) $(BIN)/uv
STAMP := $(VENV)/.ready-$(FLAVOUR)
PINS := requirements/$(FLAVOUR).txt requirements/models.txt requirements/overrides.txt requirements/uv.txt

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint peers screenshot bench-batch bench-train bench-retrieval bench-serve bench-peers bench-fitted bench-plan bench-scale gpu-check pins audit bom clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP)  ## create .venv with the pinned packages and the command .venv/bin/inverdict

$(STAMP): $(PINS) pyproject.toml
	@deploy/setup.sh $(FLAVOUR) "$(PYTHON)" "$(VENV)" "$(TORCH_CPU_INDEX)"
	@touch $@

demo: setup  ## learn a judge's own prompt, judge the constructed demo records with two models, write the report
	@$(BIN)/inverdict run configs/demo.yaml

# Bytecode is written even where the environment forbids it: else every process compiles all tests anew.
test: setup lint  ## lint, types, import contracts, then the default, ray and engine tests
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto --maxprocesses 4 --dist loadscope -m "not slow and not gpu" --durations=20

lint: setup
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# Other evaluation tools have pins that ours must not depend on: an environment of their own, the server in ours.
PEERS := .venv-peers

peers: setup $(PEERS)/.ready  ## let DeepEval, Inspect AI, MLflow, OpenEvals, prometheus-eval and the openai client drive our endpoints
	@PYTHONDONTWRITEBYTECODE= $(PEERS)/bin/pytest tests/peers

$(PEERS)/.ready: requirements/peers.txt requirements/uv.txt
	@deploy/setup.sh peers "$(PYTHON)" "$(PEERS)" ""
	@touch $@

screenshot: setup  ## write docs/images/report.png from the demo's report (needs Chromium)
	@deploy/screenshot.sh runs/demo/report/report.html docs/images/report.png

bench-batch: setup  ## benchmark batch evaluation and statistics: time and memory, as ratios within one run
	@$(BIN)/python -m tests.bench.batch
	@$(BIN)/python -m tests.bench.certificate

bench-train: setup  ## benchmark distillation and inversion fine-tuning: time and memory, as ratios within one run
	@$(BIN)/python -m tests.bench.train

bench-retrieval: setup  ## benchmark ranking loss and search: time, as ratios within one run
	@$(BIN)/python -m tests.bench.retrieval

bench-serve: setup  ## benchmark the served panel: time and memory, as ratios within one run
	@$(BIN)/python -m tests.bench.serve

bench-peers: setup $(PEERS)/.ready  ## benchmark ours beside other tools: the same records, model and server
	@$(BIN)/python -m tests.bench.peers $(ARGS)

bench-fitted: setup  ## benchmark a fitted judge against the same model zero-shot: tokens a second, memory
	@$(BIN)/python -m tests.bench.fitted

bench-plan: setup  ## benchmark `inverdict plan`: its estimates against measurements on this machine
	@$(BIN)/python -m tests.bench.plan

bench-scale: setup  ## benchmark scaling: time per record and memory at 100,000 and 1,000,000 records, scripted engine, four logical nodes
	@$(BIN)/python -m tests.bench.scale 100000 1000000

gpu-check: setup  ## try a machine with GPUs, in 20 minutes at most; ARGS=--torch-only: what needs torch alone, also on a CPU
	@$(BIN)/python -m tests.bench.gpu_check $(ARGS)

# PIP_FIND_LINKS, which may hold torch's CPU build, must not affect the GPU pins.
pins:  ## compile requirements/*.txt from pyproject.toml and peers.in
	@for flavour in cpu gpu; do \
	  override=""; links=""; \
	  [ $$flavour = cpu ] && override="--override requirements/overrides.txt" && links="$(PIP_FIND_LINKS)"; \
	  UV_FIND_LINKS="$$links" VIRTUAL_ENV=$(VENV) $(BIN)/uv pip compile pyproject.toml --extra $$flavour --extra dev $$override --python-version 3.11 \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links -q -o requirements/$$flavour.txt || exit 1; \
	done
	@UV_FIND_LINKS= $(BIN)/uv pip compile requirements/peers.in --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url --no-emit-find-links -q -o requirements/peers.txt

# Tools that are installed for one call only, outside the project's environment.
AUDIT := pip-audit==2.10.1
BOM := cyclonedx-bom==7.5.0

audit: setup  ## check the pins against published advisories (exit code 3: some could not be looked up)
	@for pins in cpu gpu; do \
	  echo "requirements/$$pins.txt"; \
	  $(UV) tool run -q --from $(AUDIT) pip-audit --no-deps --disable-pip --progress-spinner off -f json \
	    -r requirements/$$pins.txt 2>/dev/null | $(BIN)/python -m deploy.audit || failed=$$?; \
	done; exit $${failed:-0}

bom: setup  ## write the pins' bill of materials to build/, as CycloneDX JSON
	@mkdir -p build && for pins in cpu gpu; do \
	  $(UV) tool run -q --from $(BOM) cyclonedx-py requirements requirements/$$pins.txt --output-reproducible \
	    --of JSON -o build/bom-$$pins.cdx.json || exit 1; \
	  echo "build/bom-$$pins.cdx.json"; \
	done

clean:  ## remove the virtual environment and the runs
	rm -rf $(VENV) $(PEERS) runs
