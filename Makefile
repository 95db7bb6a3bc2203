# Every target builds what it needs in .venv from requirements.lock.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Side by side on all cores; more threads in each would wait for one another.
TEST := OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile

.PHONY: demo test test-slow test-gpu lint format clean

demo: $(VENV)/.complete
	$(RUN) -m scripts.run_demo $(if $(FACES),--faces "$(FACES)")

test: $(VENV)/.complete
	$(TEST)

test-slow: $(VENV)/.complete
	$(TEST) -m slow

test-gpu: $(VENV)/.complete
	$(RUN) -m pytest -m gpu -rs -W default  # other versions of torch may warn of other things

lint: $(VENV)/.complete
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(VENV)/.complete
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(VENV)/.complete: requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	# python -m scripts.NAME works in every folder, not only in this one
	$(RUN) -c 'import site; open(site.getsitepackages()[0] + "/gpen_trainer.pth", "w").write("$(CURDIR)")'
	touch $@

clean:
	rm -rf $(VENV) runs/demo
