PYTHON ?= python3
WORKERS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
PYTEST = $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal $(if $(SHUFFLE),--shuffle $(SHUFFLE))

.PHONY: setup engine demo test test-slow test-orders bench lint format clean

setup: $(STAMP)

$(STAMP): pyproject.toml
	@echo "Setting up .venv: downloads PyTorch and the other packages the first time."
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) install --upgrade pip
	$(PIP) install --editable ".[dev]"
	@touch $@

# The CPU engine, built ahead: else it is compiled as it is needed, after each change of kernels/cpu or kernels/shared.
ENGINE := kernels/cpu/.built

engine: setup $(ENGINE)

$(ENGINE): $(wildcard kernels/cpu/*.py kernels/shared/*.py)
	$(BIN)/python -m gpuaug.kernels.cpu.build --if-possible
	@touch $@

demo: setup
	$(BIN)/gpuaug demo

# Triton decides between its compiler and its interpreter when a kernel is defined, so what runs Triton kernels on a
# machine without a GPU has an invocation of its own. The interpreter is slow: it gets the judges of every op.
INTERPRETED := tests/interpreter $(addprefix tests/test_,$(addsuffix .py,parity rows random_pipelines noise policies user_op compiling))

# What the CPU engine is where it is not built: on these as well.
COMPILED := tests/test_cpu.py $(addprefix tests/test_cpu_,$(addsuffix .py,calls memory steps))

test: TESTS := not slow
test-slow: TESTS := slow
test test-slow: engine
	@status=0; \
	echo "Triton backend, interpreted:"; \
	TRITON_INTERPRET=1 $(PYTEST) -m "$(TESTS)" $(INTERPRETED) -k "triton or interpreter" || status=1; \
	echo "CPU backend, compiled as it is needed:"; \
	GPUAUG_ENGINE=jit $(PYTEST) -m "$(TESTS)" $(COMPILED) || status=1; \
	echo "Everything else:"; \
	$(PYTEST) -m "$(TESTS)" tests || status=1; \
	exit $$status

# make test in random orders, each on its number of workers: seed:workers
ORDERS ?= 1:1 2:2 3:3 4:2 5:3

test-orders: setup
	@status=0; \
	for order in $(ORDERS); do \
		echo "Order $${order%:*}, $${order#*:} workers:"; \
		$(MAKE) --no-print-directory test SHUFFLE=$${order%:*} WORKERS=$${order#*:} || status=1; \
	done; \
	exit $$status

bench: setup
	$(BIN)/gpuaug bench

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist *.egg-info .benchmarks .pytest_cache .ruff_cache kernels/cpu/.built kernels/cpu/engine-*.so
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +
