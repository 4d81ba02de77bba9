# `make demo` and `make test` work in a fresh clone: each makes .venv first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CLIPS := $(abspath ../shared/clips)
export TRANSFER3D_CLIPS ?= $(wildcard $(CLIPS))

.PHONY: help demo test test-slow docs pictures fuzz lint format clean

help:
	@echo "make demo       everything end to end on the built-in dataset -> runs/demo/report.html"
	@echo "make test       lint and the tests"
	@echo "make test-slow  the long tests"
	@echo "make docs       the documentation as a site with search -> build/site/index.html"
	@echo "make pictures   the pictures of the documentation, from runs on the built-in dataset -> docs/images"
	@echo "make fuzz       damaged and hostile files for FUZZ_MINUTES=10"
	@echo "make format     ruff's formatter and fixes"

$(READY): pyproject.toml constraints.txt
	@if command -v uv >/dev/null; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  VIRTUAL_ENV=$(VENV) uv pip install --quiet -c constraints.txt -e '.[test,lint]'; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,lint]'; \
	fi
	@touch $(READY)

demo: $(READY)
	$(BIN)/transfer3d demo

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Two processes of one thread each: on two cores they take half the time of one with two threads. Bytecode is
# kept whatever the environment says: hundreds of child processes would compile the package again.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(READY) lint
	$(PYTEST)

test-slow: $(READY)
	$(PYTEST) -m slow

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

pictures: $(READY)
	$(BIN)/python tools/pictures.py

FUZZ_MINUTES ?= 10

fuzz: $(READY)
	PYTHONPATH=tools OMP_NUM_THREADS=1 $(BIN)/python -m fuzz --minutes $(FUZZ_MINUTES)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) runs dist build .pytest_cache .ruff_cache
