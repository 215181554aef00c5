"""Writes the pages that are made from the code: `python docs/generate.py [--check]`, or `make docs`.

api.md            public names with signatures and docstrings
logged.md         every line that is logged, with its level
configuration.md  every setting (`python -m bot config reference`)
"""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

DOCS: Final = Path(__file__).resolve().parent
ROOT: Final = DOCS.parent
BY_NAME: Final = (("bot.client", "NadoClient"), ("bot.pair", "DNPairBot"))
LEVELS: Final = ("debug", "info", "warning", "error", "critical", "exception")
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


# ---------------------------------------------------------------------- api.md


def api() -> str:
    """docs/api.md."""
    nadofast = importlib.import_module("nadofast")
    lines = [
        "# API",
        "",
        "Public names of `nadofast`, and the two classes of `bot` that other programs call by name. Made",
        "from the code by `make docs`. Where older names live: [names.md](names.md).",
        "",
    ]
    names = sorted((name for name in nadofast.__all__ if not name.startswith("_")), key=str.lower)
    for name in names:
        lines += _entry(getattr(nadofast, name), name)
    for module, name in BY_NAME:
        lines += _entry(getattr(importlib.import_module(module), name), name)
    return "\n".join(lines).rstrip() + "\n"


def _entry(value: object, name: str) -> Iterator[str]:
    module = getattr(value, "__module__", None) or ""
    if inspect.ismodule(value):
        yield from (f"## `{name}`", "", *_paragraphs(inspect.getdoc(value)))
        own = [
            item
            for item in vars(value).values()
            if inspect.isclass(item) and item.__module__ == value.__name__
        ]
        yield from (*(f"- `{item.__name__}`: {_first(inspect.getdoc(item))}" for item in own), "")
        return
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        yield from (f"## `{name}`", "", f"A value of type `{type(value).__name__}`.", "")
        return
    yield from (f"## `{name}`", "", f"`{module}`", "")
    definition = _definition(module, getattr(value, "__name__", name))
    if definition is not None and not isinstance(definition, ast.ClassDef):
        yield from ("```python", _signature(definition), "```", "")
    yield from _paragraphs(inspect.getdoc(value) if _has_own_doc(value) else None)
    if inspect.isclass(value):
        yield from _members(value, definition)


def _members(cls: type, definition: Definition | None) -> Iterator[str]:
    for base in (cls, *(b for b in cls.__mro__[1:] if b.__module__.split(".")[0] in ("nadofast", "bot"))):
        found = definition if base is cls else _definition(base.__module__, base.__name__)
        if not isinstance(found, ast.ClassDef):
            continue
        for node in found.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if node.name.startswith("_") and not (node.name == "__init__" and base is cls):
                continue
            value = inspect.getattr_static(cls, node.name, None)
            doc = inspect.getdoc(getattr(value, "fget", None) or value)
            first = "" if node.name == "__init__" and doc == object.__init__.__doc__ else _first(doc)
            yield f"- `{_signature(node)}`" + (f"  \n  {first}" if first else "")
    yield ""


def _has_own_doc(value: object) -> bool:
    return bool(getattr(value, "__doc__", None))


def _paragraphs(doc: str | None) -> Iterator[str]:
    if doc:
        yield from (*doc.splitlines(), "")


def _first(doc: str | None) -> str:
    return " ".join((doc or "").partition("\n\n")[0].split())


def _definition(module: str, name: str) -> Definition | None:
    """Where it is written: the stub of a compiled module, else the module."""
    path = ROOT / module.replace(".", "/")
    for file in (path.with_suffix(".pyi"), path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            for node in ast.parse(file.read_text(encoding="utf-8")).body:
                if isinstance(node, Definition) and node.name == name:
                    return node
    return None


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    is_property = any(ast.unparse(d) in ("property", "cached_property") for d in node.decorator_list)
    returns = "" if node.returns is None else ast.unparse(node.returns)
    if is_property:
        return f"{node.name}: {returns}"
    start = "async " if isinstance(node, ast.AsyncFunctionDef) else ""
    arguments = ast.unparse(node.args).removeprefix("self, ").removeprefix("cls, ")
    arguments = "" if arguments in ("self", "cls") else arguments
    return f"{start}{node.name}({arguments})" + (f" -> {returns}" if returns else "")


# ---------------------------------------------------------------------- logged.md


def logged() -> str:
    """docs/logged.md."""
    lines = [
        "# What is logged",
        "",
        "Every line that can be said, by file; `…` stands for figures. Made from the code by `make docs`.",
        "Nothing here is ever a key, a signature, a token or an address of an alert receiver.",
        "",
        "Event lines of the bot are its record. They have no level, but for those that begin with `warning`,",
        "`critical` or `info` and a code in brackets: [operations.md](operations.md) explains them. Lines of",
        "the client are among them from level warning up, at most ten a second.",
    ]
    for package in ("bot", "nadofast"):
        rows = [
            (path.name, level, text)
            for path in sorted((ROOT / package).glob("*.py"))
            for level, text in _said(ast.parse(path.read_text(encoding="utf-8")))
        ]
        lines += ["", f"## {package}", "", "| file | level | line |", "|---|---|---|"]
        lines += [f"| {name} | {level} | {text} |" for name, level, text in rows]
    return "\n".join(lines) + "\n"


def _said(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
            continue
        owner, verb = ast.unparse(node.func.value), node.func.attr
        if verb == "event" and owner.rpartition(".")[2] in ("log", "_log"):
            yield "event", _text(node.args[0])
        elif verb in LEVELS and owner == "_log":
            yield "error" if verb == "exception" else verb, _text(node.args[0])


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        text = str(node.value)
    elif isinstance(node, ast.JoinedStr):
        text = "".join(str(v.value) if isinstance(v, ast.Constant) else _placeholder(v) for v in node.values)
    elif isinstance(node, ast.BinOp):
        text = _text(node.left) + _text(node.right)
    else:
        text = _placeholder(node)
    for mark in ("%s", "%d", "%.1f", "%.0f", "%.2f"):
        text = text.replace(mark, "…")
    return " ".join(text.split()).replace("|", "\\|")


def _placeholder(node: ast.expr) -> str:
    """The name of what stands there, when it has one."""
    inner = node.value if isinstance(node, ast.FormattedValue) else node
    if isinstance(inner, ast.Name | ast.Attribute):
        return "{" + ast.unparse(inner).rpartition(".")[2] + "}"
    return "…"


# ---------------------------------------------------------------------- all


def pages() -> dict[Path, str]:
    """Every made page and what it should say."""
    configdoc = importlib.import_module("bot.configdoc")
    return {
        DOCS / "api.md": api(), DOCS / "logged.md": logged(),
        DOCS / "configuration.md": configdoc.reference(),
    }  # fmt: skip


def main() -> int:
    """Write what differs; with --check only say it. 1 if something differed then."""
    sys.path.insert(0, str(ROOT))
    stale = [(path, text) for path, text in pages().items() if not path.exists() or path.read_text() != text]
    for path, text in stale:
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        print(f"{'stale' if '--check' in sys.argv[1:] else 'wrote'} {path.relative_to(ROOT)}")
    return int(bool(stale) and "--check" in sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
