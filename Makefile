# Every target works on a fresh machine: it makes its virtual environment first. PYTHON chooses the interpreter (3.10-3.13),
# CONSTRAINTS the versions of everything else; both need a VENV of their own.
PYTHON ?= python3
PYTHON313 ?= python3.13
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
WORKERS ?= 2
DEMO ?= result/demo
TIMES ?= 50
SOAKED ?= tests/test_ending.py tests/loading/test_loader_ends.py tests/loading/test_loader_processes.py tests/training/test_ended.py \
	tests/serve/test_connections.py
# uv installs what pip does, in less than half the time. An index of your own is named by UV_INDEX_URL, not by pip's files.
# Neither compiles modules, which takes over a minute for 20,000 of them: Python does so on the first import.
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python
GET_UV := $(BIN)/pip install --quiet --no-compile -c $(CONSTRAINTS) uv
export PYTHONDONTWRITEBYTECODE :=
MINOR_VERSION := import sys; print("%d.%d" % sys.version_info[:2])
# The types of numpy 2.5 need Python 3.12; below that, mypy checks for the oldest Python, as pyproject.toml says.
CHECK_TYPES := version=$$($(BIN)/python -c '$(MINOR_VERSION)'); \
  case $$version in 3.1[01]) $(BIN)/mypy;; *) $(BIN)/mypy --python-version $$version;; esac

.PHONY: demo test test-full soak test-newest test-torch211 test-oldest test-all lint benchmark docs clean venv-fits

demo: $(VENV)/.installed
	$(BIN)/run_downstream.py -m train -u fbank_no_cmvn -d emotion_corr_attn -c recipes/demo/emotion_corr_attn.yaml -p $(DEMO) --overwrite
	@echo "report: $(DEMO)/test_fold1_metrics.json and $(DEMO)/test_fold1_confusion.png"

# mypy, which takes one processor for most of a minute, runs beside the tests.
test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	{ $(CHECK_TYPES); } & types=$$!; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not full"; tests=$$?; \
	wait $$types && exit $$tests

test-full: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m full

# Tests of processes, again and again: they must not depend on who is faster. tests/soak/kills.py repeats those that kill trainings.
soak: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist load -m "full or not full" --count $(TIMES) --durations 40 $(SOAKED)

# The newest set on the newest Python. With pyenv: PYENV_VERSION=3.11.7:3.13.0 make test-newest
test-newest:
	$(MAKE) test PYTHON=$(PYTHON313) VENV=.venv-newest

test-torch211:
	$(MAKE) test VENV=.venv-torch211 CONSTRAINTS=constraints-torch2.11.txt

# The low end of setup.cfg's ranges, where stock s3prl runs unpatched; Python 3.11.
test-oldest:
	$(MAKE) .venv-oldest/.installed-test VENV=.venv-oldest CONSTRAINTS=constraints-oldest.txt
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -n $(WORKERS)

# Every tested set (docs/howto/install.md), which takes an hour; needs Python 3.11 as PYTHON, and 3.13 as PYTHON313.
test-all:
	$(MAKE) test
	$(MAKE) test-newest
	$(MAKE) test-torch211
	$(MAKE) test-oldest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(CHECK_TYPES)

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs
	@echo "documentation: build/docs/index.html"

benchmark: $(VENV)/.installed-test
	$(BIN)/python benchmarks/pooling.py
	$(BIN)/python benchmarks/weighted_sum.py
	$(BIN)/python benchmarks/saliency.py
	$(BIN)/python benchmarks/tcgru.py
	$(BIN)/python benchmarks/acnn.py
	$(BIN)/python benchmarks/egemaps.py
	$(BIN)/python benchmarks/rae.py
	$(BIN)/python benchmarks/layer_cut.py
	$(BIN)/python benchmarks/whisper_window.py
	$(BIN)/python benchmarks/superb.py --size base
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/matrix.py --demo
	$(BIN)/python benchmarks/extraction.py --size base
	$(BIN)/python benchmarks/cold_run.py --upstream fbank
	$(BIN)/python benchmarks/training_step.py --size base
	$(BIN)/python benchmarks/finetune.py
	$(BIN)/python benchmarks/matrix.py --size base
	$(BIN)/python benchmarks/report.py
	$(BIN)/python benchmarks/peer.py --peer $(or $(PEER),none)

$(VENV)/.installed: setup.cfg $(CONSTRAINTS) | venv-fits
	$(PYTHON) -m venv $(VENV)
	echo $(CONSTRAINTS) >$(VENV)/.constraints
	$(GET_UV)
	$(INSTALL) -c $(CONSTRAINTS) -e .
	touch $@

$(VENV)/.installed-test: setup.cfg $(CONSTRAINTS) | venv-fits
	$(PYTHON) -m venv $(VENV)
	echo $(CONSTRAINTS) >$(VENV)/.constraints
	$(GET_UV)
	$(INSTALL) -c $(CONSTRAINTS) -e ".[test]"
	touch $(VENV)/.installed $(VENV)/.installed-docs $@

$(VENV)/.installed-docs: setup.cfg $(CONSTRAINTS) | venv-fits
	$(PYTHON) -m venv $(VENV)
	echo $(CONSTRAINTS) >$(VENV)/.constraints
	$(GET_UV)
	$(INSTALL) -c $(CONSTRAINTS) -e ".[docs]"
	touch $(VENV)/.installed $@

# An environment that is up to date is used as it is, so one of another Python or other constraints would be taken silently.
venv-fits:
	@wanted=$$($(PYTHON) -c '$(MINOR_VERSION)') || \
	  { echo 'PYTHON=$(PYTHON): does not start; name an interpreter of Python 3.10 to 3.13' >&2; exit 2; }; \
	case $$wanted in 3.1[0-3]) ;; *) echo "PYTHON=$(PYTHON): is Python $$wanted; name one of 3.10 to 3.13" >&2; exit 2;; esac; \
	[ -e $(VENV)/pyvenv.cfg ] || exit 0; \
	way='another folder with VENV=…, or remove this one: rm -r $(VENV)'; \
	found=$$($(BIN)/python -c '$(MINOR_VERSION)' 2>/dev/null) || \
	  { echo "$(VENV): its Python does not start; choose $$way" >&2; exit 2; }; \
	[ "$$found" = "$$wanted" ] || \
	  { echo "$(VENV): is of Python $$found, but PYTHON=$(PYTHON) is $$wanted; choose $$way" >&2; exit 2; }; \
	made=$$(cat $(VENV)/.constraints 2>/dev/null || echo $(CONSTRAINTS)); \
	[ "$$made" = $(CONSTRAINTS) ] || \
	  { echo "$(VENV): was made with $$made, not CONSTRAINTS=$(CONSTRAINTS); choose $$way" >&2; exit 2; }

clean:
	rm -rf $(VENV) .venv-newest .venv-torch211 .venv-oldest build dist *.egg-info result
