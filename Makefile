# make demo   train, compact and convert LeNet on 5,000 real digits (no network after the set-up)
# make test   the whole test suite
# make lint   style; `make format` mends most of it
# make setup  .venv only.  PYTHON=python3.12 chooses the interpreter, GPU=1 adds NVIDIA's libraries, HOROVOD=0 does
#             without Horovod (which the tests need).
# make tutorial  runs docs/tutorial.ipynb and writes its outputs and docs/tutorial.md; 12 minutes on two
#             cores. It downloads CIFAR-10, or reads it from a folder: TUTORIAL="--data_dir=DIR".
# make versions  the laws with older releases of TensorFlow and Keras, each pair in an environment of its own; a few
#             minutes and 3 GB of disk a pair.  VERSIONS="--pair=2.20.0,3.12.4 --horovod" passes flags on.

PYTHON ?=
GPU ?= 0
BIN := .venv/bin
OUTPUT := runs/demo

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test lint format setup tutorial versions clean

demo: setup
	@rm -rf $(OUTPUT)
	@$(BIN)/python train.py --model=lenet --dataset=digits --baseline --strength=0.008 --learning_rate=0.05 --epochs=40 \
		--output=$(OUTPUT)

test: setup
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

tutorial: setup
	@PYTHON=$(PYTHON) GPU=$(GPU) tools/setup.sh tutorial
	@$(BIN)/python -m tools.tutorial $(TUTORIAL)

# Not after `setup`: it makes environments of its own.
versions:
	@$(or $(PYTHON),python3) tools/check_versions.py $(VERSIONS)

setup:
	@PYTHON=$(PYTHON) GPU=$(GPU) tools/setup.sh

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis runs
