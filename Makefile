# The commands of this repository. Each makes what it needs first; on Linux with Python 3.11+ a clone is enough.

.DEFAULT_GOAL := help
.PHONY: bench bench-all help demo test soak soak-weeks check lock clean interop

# More for pytest: make test PYTEST_ARGS="-k postgres -x"
# Modules in the order of their names: by their number of tests, the long ones of few tests would come last, to one worker.
PYTEST_ARGS ?= --numprocesses auto --dist loadscope --no-loadscope-reorder

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## the product at work, on this machine, with made-up people
	@scripts/bootstrap demo
	@.venv/bin/python scripts/demo.py

test: check ## everything that must hold: check, then all tests (PYTEST_ARGS="-k name" for some)
	@.venv/bin/python -m compileall -q src tests bench # the programs that tests start need not compile it each time
	PYTHONDONTWRITEBYTECODE= TMPDIR=$$(scripts/folder-for-tests) .venv/bin/pytest $(PYTEST_ARGS)

N ?= 1000
KILLS = tests/secrets/test_kills.py tests/secrets/migration/test_kills.py tests/columns/test_kills.py \
	tests/custody/test_backup.py tests/custody/test_rotation.py
soak: ## kill and disturb runs N=1000 times, kill commands of custody at each step, try N random days (SEED=...)
	@scripts/bootstrap test
	TESTS_SOAK=$(N) TESTS_EVERY_STEP=1 TESTS_SEED=$(SEED) .venv/bin/pytest --capture=no --durations=0 --timeout=0 \
		-k "kill or not custody" tests/chaos tests/engine/test_properties.py tests/engine/test_model.py $(KILLS)

soak-weeks: ## two simulated weeks of scheduled runs with 50,000 people (SOAK_ARGS="--people 5000 --minutes 10")
	@scripts/bootstrap test
	.venv/bin/python -m bench.weeks $(SOAK_ARGS)

interop: ## the contract of providers of secrets against real servers, built and started here (docs/howto/interop.md)
	@scripts/bootstrap test
	.venv/bin/python scripts/interop.py $(INTEROP_ARGS)

bench: ## what it does beside the least that could do it, as ratios; exits 1 when a line misses its reach
	@scripts/bootstrap test
	.venv/bin/python -m bench $(BENCH_ARGS)

bench-all: ## the same, and what custody of secrets must reach with 100,000 of them (ten minutes)
	@scripts/bootstrap test
	.venv/bin/python -m bench --all $(BENCH_ARGS)

check: ## without running the product: style, format, types, arrows between packages
	@scripts/bootstrap test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo

LOCK = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --only-binary :all: --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK_ARGS)

# Each file is held to the versions of those before it, so that all fit into one environment.
lock: ## pin what pyproject.toml and requirements/*.in allow (LOCK_ARGS=--upgrade: the newest)
	@scripts/bootstrap test
	$(LOCK) requirements/uv.in -o requirements/uv.txt
	$(LOCK) pyproject.toml -o requirements/runtime.txt
	$(LOCK) requirements/build.in -c requirements/runtime.txt -o requirements/build.txt
	$(LOCK) requirements/demo.in -c requirements/runtime.txt -c requirements/build.txt -o requirements/demo.txt
	$(LOCK) requirements/test.in -c requirements/runtime.txt -c requirements/build.txt -c requirements/demo.txt \
		-o requirements/test.txt
	$(LOCK) --no-binary python-ldap --no-deps requirements/ldap.in -o requirements/ldap.txt
	$(LOCK) --no-binary tpm2-pytss --no-deps requirements/tpm.in -o requirements/tpm.txt

clean: ## remove what was made: environment, caches, demonstration
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo dist build
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
