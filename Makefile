# make demo   train, compact and convert LeNet on 5,000 real digits (no network after the set-up)
# make test   the whole test suite
# make lint   style; `make format` mends most of it
# make setup  .venv only.  PYTHON=python3.12 chooses the interpreter, GPU=1 TensorFlow with CUDA, HOROVOD=0 does
#             without Horovod (which the tests need).

PYTHON ?=
GPU ?= 0
BIN := .venv/bin
OUTPUT := runs/demo

export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: demo test lint format setup clean

demo: setup
	@rm -rf $(OUTPUT)
	@$(BIN)/python train.py --model=lenet --dataset=digits --baseline --strength=0.008 --learning_rate=0.05 --epochs=40 \
		--output=$(OUTPUT)

test: setup
	@$(BIN)/python -m pytest -q -n 2

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

setup:
	@PYTHON=$(PYTHON) GPU=$(GPU) tools/setup.sh

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis runs
