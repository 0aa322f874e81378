"""The rules of the house that no linter has, as functions from a source to what is wrong with it."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator

MOST_FILE_LINES = 400
MOST_FUNCTION_LINES = 60
MOST_POSITIONAL = 5
VAGUE = {"common", "helper", "helpers", "lib", "managers", "misc", "services", "stuff", "util", "utils"}

# In billing/, modules that wait may count seconds in floats; the others have none at all.
WAITING = {
    "admission",
    "api",
    "claims",
    "gate",
    "generation",
    "reconcile",
    "reserving",
    "settlement",
    "spool",
}
_TIME = re.compile(r"second|_ms\b|time|sleep|pause|written|renewed|due\b", re.IGNORECASE)
_MONEY = re.compile(r"nanos|usd|price|cost|charge|credit|markup|amount|balance", re.IGNORECASE)
_PLACE = re.compile(r"(folder|parent|path|dir)$", re.IGNORECASE)

Function = ast.FunctionDef | ast.AsyncFunctionDef


def long_file(path: str, text: str) -> Iterator[str]:
    lines = text.count("\n")
    if lines > MOST_FILE_LINES:
        yield f"{path} has {lines} lines; {MOST_FILE_LINES} are allowed"


def vague_name(path: str, text: str) -> Iterator[str]:
    stem = path.rpartition("/")[2].removesuffix(".py")
    if stem in VAGUE:
        yield f"{path}: a module is named for what it knows"


def silent_module(path: str, text: str) -> Iterator[str]:
    module = _nodes(text)[0]
    assert isinstance(module, ast.Module)
    if text.strip() and ast.get_docstring(module) is None:
        yield f"{path} does not open by saying what it knows"


def long_function(path: str, text: str) -> Iterator[str]:
    for node in _functions(text):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if lines > MOST_FUNCTION_LINES:
            yield f"{path}:{node.lineno} {node.name} has {lines} lines; {MOST_FUNCTION_LINES} are allowed"


def many_arguments(path: str, text: str) -> Iterator[str]:
    for node in _functions(text):
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > MOST_POSITIONAL:
            yield f"{path}:{node.lineno} {node.name} takes {count} arguments by position"


def broad_except(path: str, text: str) -> Iterator[str]:
    for node in _nodes(text):
        if isinstance(node, ast.ExceptHandler) and _is_broad(node) and not _raises(node):
            yield f"{path}:{node.lineno} catches everything and does not raise again"


def money_in_float(path: str, text: str) -> Iterator[str]:
    """Floats and true divisions in billing/, but for seconds in modules that wait."""
    waits = path.rpartition("/")[2].removesuffix(".py") in WAITING
    lines = text.splitlines()
    for node in _nodes(text):
        if not _makes_float(node):
            continue
        line = lines[node.lineno - 1]  # type: ignore[attr-defined]
        if not waits or not _TIME.search(line) or _MONEY.search(line):
            yield f"{path}:{node.lineno} {line.strip()}"  # type: ignore[attr-defined]


def _makes_float(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, float)
    if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div):
        left = ast.unparse(node.left if isinstance(node, ast.BinOp) else node.target)
        return not _PLACE.search(left)
    return isinstance(node, ast.Name) and node.id == "float"


@functools.cache
def _nodes(text: str) -> tuple[ast.AST, ...]:
    """Many rules look at the same source: it is read once. `forget` when all have looked."""
    return tuple(ast.walk(ast.parse(text)))


def forget() -> None:
    """The trees of all sources are 150 MB."""
    _nodes.cache_clear()


def _functions(text: str) -> Iterator[Function]:
    return (node for node in _nodes(text) if isinstance(node, Function))


def _is_broad(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds)


def _raises(handler: ast.ExceptHandler) -> bool:
    inner = {
        id(node)
        for function in ast.walk(handler)
        if isinstance(function, Function | ast.Lambda)
        for node in ast.walk(function)
    }
    return any(isinstance(node, ast.Raise) and id(node) not in inner for node in ast.walk(handler))


# ── Of any text file ─────────────────────────────────────────────────────────────────────────────

# Written so that this file does not breach them itself.
_MACHINE = re.compile(r"""(?:^|[\s"'=(:,])/(?:home|root|work|Users|mnt|opt|srv)/\w""", re.MULTILINE)
_SECRETS = re.compile(
    r"sk_(?:live|test)_[0-9A-Za-z]{16,}|whsec_[0-9A-Za-z]{16,}|sk-(?:proj-|ant-)?[0-9A-Za-z]{24,}"
    r"|AKIA[0-9A-Z]{16}|gh[opsu]_[0-9A-Za-z]{30,}|-----BEGIN [A-Z ]*PRIVATE" + r" KEY-----"
)
_OUR_KEY = re.compile(r"fl_(?:live|mgmt)_[0-9A-Za-z]{12}_[0-9A-Za-z]{38}")
_INDEX = re.compile(r"(?:index-url|index_url|registry|find-links)\s*=", re.IGNORECASE)


def machine_path(path: str, text: str) -> Iterator[str]:
    for found in _MACHINE.finditer(text):
        yield f"{path}: {found[0].strip()}… exists on one machine only"


def secret(path: str, text: str) -> Iterator[str]:
    for pattern in (_SECRETS, _OUR_KEY):
        for found in pattern.finditer(text):
            yield f"{path}: {found[0][:12]}… looks like a secret"


def address_in_lock(path: str, text: str) -> Iterator[str]:
    if "://" in text:
        yield f"{path}: a lock names versions and hashes, no address"
    if _INDEX.search(text):
        yield f"{path}: which index serves packages is the machine's affair"


Rule = Callable[[str, str], Iterator[str]]

EVERY_MODULE: tuple[Rule, ...] = (long_file, vague_name, long_function, many_arguments, broad_except)
OUR_MODULES: tuple[Rule, ...] = (silent_module,)
EVERY_FILE: tuple[Rule, ...] = (machine_path, secret)


# ── Names in strings, which no type checker sees ─────────────────────────────────────────────────

_TEMPLATE = re.compile(r"^[\w/.-]+\.(?:html|txt)$")
_IN_TEMPLATE = re.compile(r"""\{%\s*(?:extends|include)\s+["']([^"']+)["']""")
_LINK = re.compile(r"""\{%\s*url\s+["']([^"']+)["']""")


def templates_in_code(text: str) -> set[str]:
    """Every string that names a template."""
    found = (node.value for node in _nodes(text) if isinstance(node, ast.Constant))
    return {value for value in found if isinstance(value, str) and _TEMPLATE.match(value)}


def templates_in_template(text: str) -> set[str]:
    return set(_IN_TEMPLATE.findall(text))


def links(text: str) -> set[str]:
    return set(_LINK.findall(text))


def jobs(text: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Each job that is enqueued by name, with the names of its arguments."""
    for node in _nodes(text):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("jobs.enqueue", "enqueue"):
            name = node.args[0]
            assert isinstance(name, ast.Constant), (
                f"a job is enqueued by a computed name: {ast.unparse(node)}"
            )
            yield str(name.value), frozenset(keyword.arg or "**" for keyword in node.keywords)


def unscoped_uses(text: str) -> set[str]:
    """The functions that look past the owner of a row; an empty name stands for the module itself."""
    uses = {id(node) for node in _nodes(text) if _is_unscoped(node)}
    found = set()
    for function in _functions(text):
        inside = {id(node) for node in ast.walk(function) if _is_unscoped(node)}
        if inside:
            found.add(function.name)
            uses -= inside
    return found | ({""} if uses else set())


def _is_unscoped(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "unscoped"


_NETWORK = {
    *("socket", "ssl", "http.client", "urllib.request", "urllib3", "requests", "aiohttp", "httpx", "httpx2"),
    *("httpcore", "anyio", "aiohappyeyeballs", "websockets", "ftplib", "telnetlib", "asyncio.streams"),
}
_CONNECTS = {"open_connection", "create_connection", "sock_connect", "urlopen"}


def goes_out(text: str) -> bool:
    """Whether a module has what it takes to speak to another machine."""
    for node in _nodes(text):
        if isinstance(node, ast.Import) and any(alias.name in _NETWORK for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and node.module in _NETWORK:
            return True
        if isinstance(node, ast.Attribute) and node.attr in _CONNECTS:
            return True
    return False


def crowded(line: str) -> bool:
    """A line of a style sheet that is too long, or that hides several rules."""
    return len(line) > 160 or line.count("}") > 1


def styled(sheet: str) -> set[str]:
    """Classes of ours for which a style sheet has a rule."""
    return set(re.findall(r"\.(fl-[a-z][\w-]*)", sheet))


def worn(text: str) -> set[str]:
    """Classes of ours that a text names; one that ends with a hyphen is the beginning of several."""
    return set(re.findall(r"(?<![\w-])fl-[a-z][\w-]*", text))


def at_odds(styled_here: set[str], worn_here: set[str]) -> set[str]:
    """Those that are only styled or only worn."""
    begun = tuple(name for name in worn_here if name.endswith("-"))
    dead = {name for name in styled_here - worn_here if not name.startswith(begun)}
    return dead | {
        name
        for name in worn_here - styled_here
        if not any(s.startswith(name) for s in styled_here if name in begun)
    }
