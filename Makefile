# deepjet's verbs. `make demo` and `make test` need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN := $(BIN)/python -m

help:
	@echo "make demo    install into $(VENV), draw sample data, train an FCN-8s on it, score it, write demo/index.html"
	@echo "make test    install with the test extras and run all tests"
	@echo "make test-ptx compile the kernels of NVIDIA cards for each capability, count registers and spills (no card needed)"
	@echo "make test-sim run the kernels of NVIDIA cards in numba's simulator (make test does, too)"
	@echo "make lint    ruff"
	@echo "make models  write every model's prototxts from its net.py"
	@echo "make proto   write netspec/caffe_pb2.py from netspec/caffe.proto"
	@echo "make paper   run the paper's experiments that have no result yet, write docs/paper.md and .html (REAL=dir: real images)"
	@echo "make bench   install other engines and measure ours beside them (25 minutes); benchmarks/results/ gets the table"
	@echo "make bench-gpu install PyTorch and measure ours beside it on an NVIDIA card (8 minutes); likewise"
	@echo "make published WEIGHTS=dir DATA=dir  score the published weights on the paper's splits, difference from the published scores"
	@echo "make clean   remove $(VENV), demo/ and what Python left behind"

# The stamps make a second `make demo` start at once.
$(VENV)/installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[test]"
	@touch $@

demo: $(VENV)/installed
	$(RUN) data.sample
	$(RUN) netspec.make --all
	@rm -rf demo
	$(RUN) solvers.run models/fcn_sample/solver.prototxt --log demo/train.log
	$(RUN) solvers.score models/fcn_sample/val.prototxt models/fcn_sample/snapshot/train_iter_$$(sed -n 's/^max_iter: //p' models/fcn_sample/solver.prototxt).caffemodel --log demo/train.log --save demo
	@echo
	@echo "Open demo/index.html: input, truth and prediction side by side, the loss curve and the scores."

# A process for each core, up to 4; a file's tests stay together.
test: $(VENV)/installed-test
	$(RUN) pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-sim: $(VENV)/installed-test
	$(RUN) tests.layers.core.cuda.simulated

test-ptx: $(VENV)/installed-test
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[cuda-test]"
	$(RUN) pytest -q tests/layers/core/cuda/test_ptx.py tests/layers/core/cuda/test_compiler.py

lint: $(VENV)/installed-test
	$(BIN)/ruff check .

models: $(VENV)/installed
	$(RUN) netspec.make --all

proto:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e ".[proto]"
	$(BIN)/python netspec/compile_proto.py

# Real photographs, labels and weights are used where they lie beside the project, or in REAL=dir.
REAL ?= $(wildcard ../shared/real)
paper: $(VENV)/installed
	$(RUN) paper.run $(if $(REAL),--real $(REAL)) $(PAPER)

# PyTorch's build for the CPU alone is smaller; whoever wants it installs it into $(VENV) before.
$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[bench]"
	@touch $@

bench: $(VENV)/installed-bench
	$(RUN) benchmarks.run $(BENCH)

$(VENV)/installed-bench-gpu: $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e ".[cuda,test]" torch
	@touch $@

bench-gpu: $(VENV)/installed-bench-gpu
	$(RUN) benchmarks.gpu $(BENCH)

# WEIGHTS holds the published caffemodels (missing ones are listed with their addresses), DATA the data sets.
published: $(VENV)/installed
	@$(if $(WEIGHTS),,echo "usage: make published WEIGHTS=dir DATA=dir" >&2; exit 2)
	$(RUN) solvers.published "$(WEIGHTS)" $(if $(DATA),"$(DATA)") $(PUBLISHED)

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help demo test test-ptx test-sim lint models proto paper bench bench-gpu published clean
