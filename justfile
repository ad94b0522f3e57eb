python := ".venv/bin/python"

# list the tasks
default:
    @just --list

# run the tests; `just test tests/plan -n0` runs some of them
test *arguments:
    {{python}} -m pytest {{arguments}}

# check style and format
lint:
    {{python}} -m ruff check .
    {{python}} -m ruff format --check .

# check types
types:
    {{python}} -m mypy

# write the reference pages anew
docs:
    {{python}} -m tools.generate_reference

# render the studies of the gallery; `just gallery --server URL` renders the fifth too
gallery *arguments:
    {{python}} -m tools.gallery {{arguments}}

# build the documentation site into site/
site:
    {{python}} -m zensical build --strict

# build wheel and sdist
build:
    {{python}} -m build
    {{python}} -m twine check dist/*
