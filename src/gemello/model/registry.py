"""Models and domains by name. Nothing is imported until one is asked for, so that a list of names costs nothing.

A domain is a package named by an entry point of the group `gemello.domains` (the built-in ones come in by the same door):

    registry.MODELS      dictionary from a model's name to "module:attribute"
    validate.checks()    generator of dictionaries check, value, reference, tolerance, source, passed; ran=False besides where
                         one could not be run
    benchmark.cases()    generator of dictionaries case, ours, peer, peer_version, unit, ratio, bar
    demo.run(output, seed, progress)   shows the domain at work; calls progress(text) at each step, gives the
                         report's path and the result in a few lines
    commands.app         a typer application: `gemello DOMAIN …`; its commands get `gemello.cli.output` as `context.obj`

The floor `trial`, which has no models of its own, comes in by the same door.
"""

from __future__ import annotations

import difflib
import hashlib
import pkgutil
import sys
import warnings
from collections.abc import Iterable
from functools import cache
from importlib import import_module, util
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from gemello.base.errors import GemelloError, ModelError
from gemello.model.contract import Model

GROUP = "gemello.domains"

_registered: dict[str, Model | str] = {}


# ---- models ------------------------------------------------------------------------------------------------------------
def register(name: str, target: Model | str) -> None:
    """Make a model known by `name` in this process. target: a model, or "module:attribute", imported when asked for.

    Raises ModelError for a name that stands for another model already, or is no name.
    """
    if not name or ":" in name or not (isinstance(target, Model) or ":" in target):
        raise ModelError(
            f"model {name!r}: cannot be registered as {target!r}; give a name without ':' and a model or 'module:attribute'"
        )
    if _known(name, target):
        raise ModelError(f"model {name!r}: is registered already; choose another name")
    _registered[name] = target


def _known(name: str, target: Model | str) -> bool:
    here = _registered.get(name)
    return (here is not None and here is not target and here != target) or name in _domain_models()


def get(name: str) -> Model:
    """The model of this name; or of "package.module:attribute"; or of "folder/file.py:attribute", a file that is then run; or
    of "folder/file.toml", a model file, which is only read.

    Raises ModelError, with the names that come near.
    """
    if name.lower().endswith(".toml"):
        return import_module("gemello.model.modelfile").load(name)
    if ":" in name:
        return _load(name)
    target: Model | str | None = _registered.get(name)
    if target is None:
        target = _domain_models().get(name)
    if target is None:
        raise ModelError(
            f"no model {name!r}; {_near(name, models(), 'model')} (a file of your own: path/file.toml or path/file.py:attribute)"
        )
    return _load(target) if isinstance(target, str) else target


def models() -> list[str]:
    """Names of all models, in order of the alphabet. Imports none of them."""
    return sorted({*_registered, *_domain_models()})


def _load(target: str) -> Model:
    where, attribute = target.rsplit(":", 1)
    is_file = where.endswith(".py") or "/" in where or "\\" in where
    try:
        module = _run_file(where) if is_file else import_module(where)
    except GemelloError:
        raise
    except (Exception, SystemExit) as e:  # the user's own code may raise anything
        raise ModelError(f"model {target!r}: {where} could not be imported: {_one_line(e)}") from e
    model = getattr(module, attribute, None)
    if isinstance(model, Model):
        return model
    if model is None:
        there = [n for n, v in vars(module).items() if isinstance(v, Model)]
        raise ModelError(f"model {target!r}: {where} has no {attribute!r}; {_near(attribute, there, 'model')}")
    raise ModelError(f"model {target!r}: {attribute} is a {type(model).__name__}, not a model; give an instance of gemello.Model")


def _run_file(where: str) -> ModuleType:
    path = Path(where).resolve()
    if not path.is_file():
        raise ModelError(f"no file {where!r}; give the path of a Python file, then a colon and the model's name in it")
    return _module_of(path, path.stat().st_mtime_ns)


@cache
def _module_of(path: Path, changed: int) -> ModuleType:
    """The file as a module, run once; anew after a change."""
    name = f"gemello_file_{path.stem}_{hashlib.sha256(f'{path}{changed}'.encode()).hexdigest()[:8]}"
    spec = util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path.name}: not a Python file; give one that ends in .py")
    module = util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look their module up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


# ---- domains -----------------------------------------------------------------------------------------------------------
def domains() -> list[str]:
    """Names of all domains. Imports none of them."""
    return sorted(packages())


def domain(name: str, part: str = "") -> ModuleType:
    """The package of a domain, or its module `part` (registry, validate, benchmark, demo). Raises ModelError."""
    homes = packages()
    if name not in homes:
        raise ModelError(f"no domain {name!r}; {_near(name, homes, 'domain')}")
    wanted = f"{homes[name]}.{part}" if part else homes[name]
    try:
        return import_module(wanted)
    except ModuleNotFoundError as e:
        if e.name == wanted:
            raise ModelError(f"domain {name!r} has no {part or 'package'} ({wanted}); {_offers(homes[name])}") from None
        raise ModelError(f"domain {name!r}: {wanted} needs the package {e.name}, which is not installed; install it") from e


def validate(name: str) -> list[dict[str, Any]]:
    """Every check of a domain against outside authorities, made now: check, value, reference, tolerance, source, passed."""
    return list(domain(name, "validate").checks())


def benchmark(name: str) -> list[dict[str, Any]]:
    """Every timing of a domain beside its peers, made now: case, ours, peer, peer_version, unit, ratio, bar."""
    return list(domain(name, "benchmark").cases())


@cache
def packages() -> dict[str, str]:
    """Dotted package of each domain, by name. Imports none of them."""
    found = {e.name: e.value for e in entry_points(group=GROUP)}
    if not any(v.startswith("gemello.") for v in found.values()):  # run from the source tree, without an installation
        home = import_module("gemello.domains")
        found |= {m.name: f"gemello.domains.{m.name}" for m in pkgutil.iter_modules(home.__path__) if m.ispkg}
        found |= {"trial": "gemello.trial"}
    return found


@cache
def _domain_models() -> dict[str, str]:
    """ "module:attribute" of every model of every domain, by name."""
    found: dict[str, str] = {}
    homes = packages()
    for name in sorted(homes, key=lambda n: (not homes[n].startswith("gemello."), n)):  # the built-in ones keep their names
        try:
            table = dict(domain(name, "registry").MODELS)
        except Exception as e:  # one broken package must not take the others away
            warnings.warn(f"domain {name!r} cannot be used: {_one_line(e)}", stacklevel=2)
            continue
        for twice in sorted(found.keys() & table.keys()):
            warnings.warn(f"domain {name!r}: the model name {twice!r} is taken; ask for {table.pop(twice)!r}", stacklevel=2)
        found |= table
    return found


def _offers(package: str) -> str:
    home = import_module(package)
    there = sorted(m.name for m in pkgutil.iter_modules(home.__path__) if m.name in ("registry", "validate", "benchmark", "demo"))
    return f"it has {', '.join(there) or 'nothing of the kind'}"


# ---- words -------------------------------------------------------------------------------------------------------------
def _near(name: str, known: Iterable[str], noun: str) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"the {noun}s are {', '.join(names)}" if names else f"there is no {noun}"


def _one_line(e: BaseException) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())}"[:300]
