# The words: install, demo, check, test, test-browser, docs, fix, bench, lock, clean. Everything runs in .venv, made from
# requirements.lock.
PY := .venv/bin/python
# No step may reach a model hub, and no dependency may report home.
export HF_HUB_OFFLINE := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export NO_MKDOCS_2_WARNING := 1

.PHONY: install demo check test test-browser docs fix bench lock clean

install: .venv/installed

.venv/installed: requirements.lock pyproject.toml
	@echo "== Installing into .venv (a few minutes the first time) =="
	python3 -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: install  ## from labels to a registered model, with the embedded teacher
	.venv/bin/factory build tasks/snips_intent
	.venv/bin/factory predict snips_intent "play some jazz"

check: install  ## quick: for every save
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	$(PY) -m pytest -q -m "not slow and not teacher and not browser"

test: install  ## everything that guards main
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo
	$(PY) -m pytest -q -n 2 --dist loadfile -m "not browser"

test-browser: install  ## pages in Debian's Chromium (apt-get install chromium); FACTORY_SCREENSHOTS=1 renews docs/screenshots
	$(PY) -m pytest -q tests/browser

docs: install  ## the site, into build/site; a link that leads nowhere fails
	$(PY) -m mkdocs build --strict  # not --quiet: it would not see warnings, and nothing would be strict
	@echo "open build/site/index.html, or with search: $(PY) -m http.server --bind 127.0.0.1 --directory build/site"

fix: install
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

lock:  ## resolve the newest versions that pyproject.toml allows, in an empty environment
	rm -rf .venv-lock && python3 -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check setuptools ".[weights,dev,docs]"
	.venv-lock/bin/python -m pip freeze --all --exclude pip --exclude task-model-factory \
	  | sed 's/^\(torch==[0-9.]*\)+cpu$$/\1/' > requirements.lock
	rm -rf .venv-lock

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

bench: install  ## most tables of docs/benchmarks.md, into docs/benchmarks.md.new: make bench DATA=folder-of-public-sets (about an hour)
	$(PY) -m benchmarks.tables --data $(DATA) --outputs outputs > docs/benchmarks.md.new
