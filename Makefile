# Babelrec's targets; `make help` lists them.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
RUN    ?= runs/quickstart
CONFIG ?= configs/quickstart.yaml
MODELS ?= models/recommender

.DEFAULT_GOAL := help
.PHONY: help setup demo live test lint types unit fuzz tensorboard notebook serve bench bench-encoder bench-index bench-reindex bench-diversity bench-serving bench-replicas bench-translation bench-preprocessing bench-quality bench-ablations bench-text bench-small bench-scenes bench-soak bench-service bench-store bench-loop bench-scale simulate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is required; set its path: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Two stamps: running only the demo does not install the test tools.
$(VENV)/.installed: setup.py pyproject.toml constraints.txt $(wildcard serving/native/src/*) | $(VENV)/bin/python
	@echo "Installing the pinned packages into $(VENV) (about two minutes)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train]'
	@$(BIN)/python -c 'from serving.native.library import why_not; why = why_not(); why and print(f"Note: {why}\nWithout it everything works; gRPC requests cost more processor time (docs/serving.md)")'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(VENV)/.installed-dev ## create .venv with the pinned versions, including test tools

demo: $(VENV)/.installed ## train on MovieLens-100k, evaluate, export, serve, and show recommendations
	@$(BIN)/python -m trainer.demo --config $(CONFIG) --run-dir $(RUN) --model-dir $(MODELS)

# The service's packages are an extra of their own.
$(VENV)/.installed-live: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,service]'
	@touch $@

live: $(VENV)/.installed-live ## open the console: recommendations that follow each click (VISITORS=50 ARGS='--port 8600 --no-browser')
	@$(BIN)/python -m trainer.live --config $(CONFIG) --run-dir $(RUN) --model-dir $(MODELS) $(if $(VISITORS),--visitors $(VISITORS)) $(ARGS)

test: lint types unit ## lint, types and all tests

lint: $(VENV)/.installed-dev ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev ## mypy
	$(BIN)/mypy

# In two processes: memory that TensorFlow keeps after the trainer's tests is released before the others begin.
unit: $(VENV)/.installed-dev ## only pytest
	$(BIN)/python -m pytest tests/trainer tests/benchmarks
	$(BIN)/python -m pytest --ignore=tests/trainer --ignore=tests/benchmarks

FUZZ_SECONDS ?= 60
FUZZ_TARGETS := rest gzip config text_proto csv jsonl

fuzz: $(VENV)/.installed-dev ## property tests with new examples, and coverage-guided fuzzing (FUZZ_SECONDS=60 each)
	$(BIN)/python -m pytest --hypothesis-profile=random -m hypothesis --durations=0
	BABELREC_FUZZ_RUNS=20000000 $(BIN)/python -m pytest -n 0 tests/serving/native/test_sanitized.py
	for target in $(FUZZ_TARGETS); do $(BIN)/python -m tests.fuzzing $$target -max_total_time=$(FUZZ_SECONDS) || exit 1; done

tensorboard: $(VENV)/.installed ## open TensorBoard on runs/
	$(BIN)/python -m trainer.watch --logdir runs

notebook: $(VENV)/.installed-dev ## execute the notebooks and store their outputs (minutes)
	$(BIN)/python notebooks/execute.py

serve: $(VENV)/.installed ## serve the newest exported version on port 8500
	$(BIN)/python -m serving.server --port=8500 --model_name=$(notdir $(MODELS)) --model_base_path=$(abspath $(MODELS))

bench: bench-encoder bench-index bench-serving ## all benchmarks; JSON in runs/bench/

bench-encoder: $(VENV)/.installed ## texts per second of the encoder compared with the NumPy package
	$(BIN)/python -m benchmarks.speed.encoder

bench-index: $(VENV)/.installed ## build time, recall and speed of exact, portable and ScaNN search
	$(BIN)/python -m benchmarks.speed.index

bench-reindex: $(VENV)/.installed ## processor time of a re-index of 100,000 items compared with a full export
	$(BIN)/python -m benchmarks.speed.reindex

bench-diversity: $(VENV)/.installed ## time of re-ranking by diversity, and what it gains and loses
	$(BIN)/python -m benchmarks.speed.diversity

bench-translation: $(VENV)/.installed ## translate-then-encode compared with the shared space; needs Apertium
	$(BIN)/python -m benchmarks.quality.translation

bench-preprocessing: $(VENV)/.installed-dev ## effect of each step of text.preprocessing on the encoder
	$(BIN)/python -m benchmarks.quality.preprocessing

bench-serving: $(VENV)/.installed-dev ## the model server compared with the graph that it serves; needs the model of make demo
	$(BIN)/python -m benchmarks.speed.serving

bench-replicas: $(VENV)/.installed-dev ## one, two and three model servers behind gRPC's own balancing; needs the model of make demo
	$(BIN)/python -m benchmarks.speed.replicas

$(VENV)/.installed-bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@touch $@

bench-quality: $(VENV)/.installed-bench ## quality compared with baselines (hours; resumes where it stopped); ARGS='--data kmrd' runs a part
	$(BIN)/python -m benchmarks.quality $(ARGS)

bench-small: $(VENV)/.installed-bench ## default settings on five small data sets compared with popularity, item-kNN and EASE
	$(BIN)/python -m benchmarks.quality.small $(ARGS)

bench-scenes: $(VENV)/.installed-bench ## shops, sessions, markets, news, films, stays compared with tuned baselines (hours; resumes); ARGS='--data airbnb'
	$(BIN)/python -m benchmarks.scenes $(ARGS)

bench-ablations: $(VENV)/.installed ## effect of each option: trains the variants of configs/ablations.yaml
	$(BIN)/python -m benchmarks.quality.ablations

bench-text: $(VENV)/.installed ## text search: kinds of product, titles, typos, forty queries in 16 languages; needs the run of make demo
	$(BIN)/python -m benchmarks.quality.text

bench-service: $(VENV)/.installed-dev ## the service: overhead, event to effect, kills; needs the model of make demo
	$(BIN)/python -m benchmarks.speed.service

bench-store: $(VENV)/.installed-dev ## events per second of the service's store, and processes killed while they write
	$(BIN)/python -m benchmarks.speed.store

bench-soak: $(VENV)/.installed ## the model server under attack for MINUTES=30; needs the model of make demo
	$(BIN)/python -m benchmarks.speed.soak --minutes $(or $(MINUTES),30)

bench-loop: $(VENV)/.installed-dev ## what learning on is worth, and what gate and roll-outs decide (hours; ARGS='--only gate_faults kills')
	$(BIN)/python -m benchmarks.loop $(ARGS)

bench-scale: $(VENV)/.installed-dev ## what commands cost from 10,000 to a million items (hours; ARGS='--sizes S M')
	$(BIN)/python -m benchmarks.scale $(ARGS)

simulate: $(VENV)/.installed-dev ## what policies are worth in a simulated world, observed and exact (ARGS='--service http://localhost:8600 --key KEY')
	$(BIN)/python -m benchmarks.simulation $(ARGS)

clean: ## remove tool caches; keeps runs/, models/ and .venv
	rm -rf .mypy_cache .ruff_cache .pytest_cache build *.egg-info
