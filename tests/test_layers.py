"""The layers of the house are kept by the imports, and the public face is what it says."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import sweep
from sweep import errors

PACKAGE = Path(sweep.__file__).parent
MAY_IMPORT = {
    "experiment": set(),
    "workflow": set(),
    "plan": {"experiment", "workflow"},
    "servers": {"workflow"},
    "record": set(),
    "engine": {"plan", "experiment", "workflow", "servers", "record"},
    "study": {"record"},
    "report": {"study", "record"},
    "sandbox": {"workflow"},
    "testing": {"servers", "workflow", "record", "study"},
}
PURE = {"experiment", "workflow", "plan"}  # never asyncio, a network, or pandas
IMPURE_MODULES = {"asyncio", "anyio", "aiohttp", "socketio", "socket", "pandas", "urllib", "http"}


@functools.cache
def _parse(path: Path) -> ast.Module:
    """Parse a file once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _walk(path: Path) -> tuple[ast.AST, ...]:
    """Find every node of a file that imports something."""
    found: list[ast.AST] = []
    blocks: list[ast.AST] = [_parse(path)]
    while blocks:  # statements only: no expression imports anything, and most nodes are expressions
        inside = [node for node in ast.iter_child_nodes(blocks.pop()) if isinstance(node, _BLOCKS)]
        found += (node for node in inside if isinstance(node, ast.Import | ast.ImportFrom))
        blocks += inside
    return tuple(found)


_BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)


def imports(path: Path) -> Iterator[str]:
    for node in _walk(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            yield node.module or ""


def modules(layer: str) -> list[Path]:
    return sorted((PACKAGE / layer).rglob("*.py"))


@pytest.mark.parametrize("layer", sorted(MAY_IMPORT))
def test_layer_imports_only_what_it_may(layer: str) -> None:
    allowed = MAY_IMPORT[layer] | {layer, "errors", "role_table", "input_images", "text", "types", "version"}
    climbing = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in modules(layer)
        for name in imports(path)
        if name.startswith("sweep.") and name.split(".")[1] not in allowed
    ]
    assert not climbing
    assert modules(layer)


FAMILIES = {"workflow": {"invokeai", "comfyui"}, "servers": {"invokeai", "comfyui", "ray"}}
ROOMS_OF_WORDS = {
    r"comfy|class_type|object_info": ("workflow/comfyui", "servers/comfyui", "servers/discovery.py"),
    r"invoke\W?ai|core_metadata|use_cache|is_intermediate|denoise_latents|latentsfield|model_loader": (
        *("workflow/invokeai", "servers/invokeai", "servers/discovery.py", "sandbox", "cli/servers.py"),
        *("cli/run.py", "cli/shared_options.py"),  # whose help says which options it alone has
        *("workflow/comfyui", "servers/comfyui"),  # which say where the two differ
    ),
}


def test_a_family_of_servers_never_imports_another() -> None:
    for layer, families in FAMILIES.items():
        for family in families:
            others = tuple(f"sweep.{layer}.{other}" for other in families - {family})
            reaching = [(p.name, name) for p in modules(f"{layer}/{family}") for name in imports(p)]
            assert not [(module, name) for module, name in reaching if name.startswith(others)]


def test_words_of_a_family_stand_in_its_own_rooms_only() -> None:
    """A further family is added beside the others; nothing else has to be changed, and nothing else knows of it."""
    sources = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    told = [
        f"{path}: {line.strip()}"
        for words, rooms in ROOMS_OF_WORDS.items()
        for path, text in sources.items()
        for line in text.splitlines()
        if not path.startswith(rooms) and re.search(words, line, re.IGNORECASE)
    ]

    assert not told


@pytest.mark.parametrize("layer", sorted(PURE))
def test_pure_layers_know_no_network_and_no_event_loop(layer: str) -> None:
    impure = [
        f"{path.relative_to(PACKAGE)}: {name}"
        for path in modules(layer)
        for name in imports(path)
        if name.split(".")[0] in IMPURE_MODULES and not name.startswith("urllib.parse")
    ]
    assert not impure


def test_pandas_in_the_record_only_where_the_table_is() -> None:
    users = {p.name for p in modules("record") if any(name.split(".")[0] == "pandas" for name in imports(p))}
    assert users <= {"results_folder.py", "results_table.py"}


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports inside functions and for types count too."""
    names = {_dotted(path): path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    graph = {name: {target for target in _imported_names(path) if target in names} for name, path in names.items()}

    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle
    assert sorted(order) == sorted(names)


def _dotted(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


def _imported_names(path: Path) -> Iterator[str]:
    """Each module that a file imports, as `import a.b`, `from a.b import name` or `from a import b`."""
    for node in _walk(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


FACES = ["sweep", *(f"sweep.{layer}" for layer in sorted(MAY_IMPORT))]


@pytest.mark.parametrize("package", FACES)
def test_each_package_has_a_sorted_face_whose_names_are_there(package: str) -> None:
    face = importlib.import_module(package)

    assert face.__all__ == sorted(face.__all__)
    assert face.__all__
    assert set(face.__all__) <= set(dir(face))
    for name in face.__all__:
        assert getattr(face, name) is not None
    with pytest.raises(AttributeError):
        face.nothing  # noqa: B018


@pytest.mark.parametrize("package", FACES)
def test_no_name_of_a_face_is_also_a_module_of_its_package(package: str) -> None:
    """Once such a module has been imported it stands in the package instead of the name.

    The face of the whole has the packages themselves, so that `import sweep` is enough for `sweep.record`.
    """
    folder = PACKAGE.joinpath(*package.split(".")[1:])
    inside = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    face = importlib.import_module(package)
    shadowed = inside & {name for name in face.__all__ if not isinstance(getattr(face, name), ModuleType)}

    assert not shadowed


def test_other_packages_import_from_faces_only() -> None:
    """What is not in a package's face is private to it: cli, benchmarks and other packages do not reach into it."""
    users = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "benchmarks").rglob("*.py")]
    deep = [
        f"{path.relative_to(PACKAGE.parent)}: {node.module}"
        for path in users
        for node in _walk(path)
        if isinstance(node, ast.ImportFrom) and _is_private(node.module or "", path)
    ]

    assert not deep


def _is_private(module: str, user: Path) -> bool:
    package, _, inside = module.removeprefix("sweep.").partition(".")
    own = user.is_relative_to(PACKAGE / package) or user.parent == PACKAGE
    return module.startswith("sweep.") and f"sweep.{package}" in FACES and bool(inside) and not own


def test_no_public_name_is_defined_in_two_modules() -> None:
    homes: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for name in _defined(_parse(path)):
            homes.setdefault(name, set()).add(str(path.relative_to(PACKAGE)))

    assert not {name: sorted(found) for name, found in homes.items() if len(found) > 1}


def _defined(module: ast.Module) -> Iterator[str]:
    """The public names that a module defines itself: classes, functions and constants."""
    for node in module.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        else:
            continue
        yield from (name for name in names if not name.startswith("_"))


def test_importing_sweep_imports_nothing_heavy() -> None:
    heavy = ("pandas", "numpy", "aiohttp", "PIL", "pydantic", "anyio")
    code = f"import sys, sweep, sweep.cli.main; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_every_error_has_the_exit_code_its_tree_shows() -> None:
    drawn = {
        parts[0].lstrip("├└│─ "): int(parts[1])
        for line in (errors.__doc__ or "").splitlines()
        if "Error" in line
        and len(parts := line.replace("│", " ").lstrip().lstrip("├└─ ").split()) > 1
        and parts[1].isdigit()
    }
    classes = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.SweepError)
    }
    assert drawn == {name: value.exit_code for name, value in classes.items()}
