"""Draws the import graph of the zoo: its rooms, the arrows between them, and circles.

    python docs/import_graph.py              # the rooms of zoo
    python docs/import_graph.py zoo.predict  # those of one room
    python docs/import_graph.py --mermaid    # as a picture for Markdown

Imports inside functions and those for type checkers count, too. pyproject.toml says which arrows are allowed;
`lint-imports` checks it.
"""

import argparse
import collections
from pathlib import Path

import grimp
import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

ROOT = Path(__file__).parents[1]


def room_of(module: str, package: str) -> str:
    """The child of `package` that a module lies in."""
    return module.removeprefix(f"{package}.").partition(".")[0]


def arrows(graph: grimp.ImportGraph, package: str) -> dict[tuple[str, str], int]:
    """Imports from one room of a package to another, counted."""
    counts: collections.Counter = collections.Counter()
    modules = graph.find_descendants(package)
    for module in modules:
        for imported in graph.find_modules_directly_imported_by(module) & modules:
            pair = room_of(module, package), room_of(imported, package)
            counts[pair] += pair[0] != pair[1]
    return {pair: count for pair, count in sorted(counts.items()) if count}


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """Modules that import each other, directly or through others."""
    modules = sorted(graph.modules)
    place = {module: number for number, module in enumerate(modules)}
    edges = [(place[a], place[b]) for a in modules for b in graph.find_modules_directly_imported_by(a)]
    rows, columns = np.transpose(edges)
    matrix = sparse.coo_matrix((np.ones(len(edges)), (rows, columns)), (len(modules), len(modules)))
    _, labels = csgraph.connected_components(matrix, connection="strong")
    groups = collections.defaultdict(list)
    for module, label in zip(modules, labels.tolist()):
        groups[label].append(module)
    return [group for group in groups.values() if len(group) > 1]


def depths(names: list[str], pairs: dict[tuple[str, str], int]) -> dict[str, int]:
    """How many floors each room stands above those that import no other; a circle of rooms has no floor."""
    below = {name: {b for a, b in pairs if a == name} for name in names}
    floors: dict[str, int] = {}
    while ready := [name for name in names if name not in floors and below[name] <= floors.keys()]:
        floors |= {name: 1 + max((floors[other] for other in below[name]), default=-1) for name in ready}
    return floors


def size(room: str, package: str) -> tuple[int, int]:
    """Files and lines of a room."""
    place = ROOT / package.replace(".", "/") / room
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    return len(files), sum(len(file.read_text(encoding="utf8").splitlines()) for file in files)


def text(graph: grimp.ImportGraph, package: str) -> str:
    """The rooms from the top down, each with what it imports."""
    pairs = arrows(graph, package)
    names = sorted(room_of(child, package) for child in graph.find_children(package))
    floors, sizes = depths(names, pairs), {name: size(name, package) for name in names}
    total = sum(lines for _, lines in sizes.values())
    rows = [f"{'room':<20} files  lines  share  imports"]
    for name in sorted(names, key=lambda name: (-floors.get(name, 99), name)):
        files, lines = sizes[name]
        found = ", ".join(f"{b} {count}" for (a, b), count in pairs.items() if a == name)
        rows.append(f"{name:<20} {files:>5}  {lines:>5}  {lines / total:>4.0%}   {found}".rstrip())
    upward = [name for name in names if name not in floors]
    rows += ["", f"arrows between rooms: {len(pairs)}; rooms in a circle: {', '.join(upward) or 'none'}"]
    groups = circles(graph)
    rows += [f"circle: {' '.join(group)}" for group in groups]
    return "\n".join([*rows, f"modules in a circle: {sum(map(len, groups))}"])


def mermaid(graph: grimp.ImportGraph, package: str) -> str:
    """A flowchart; arrows that others imply are left out, so that the floors can be seen."""
    pairs = set(arrows(graph, package))
    reached = {name: _reached(name, pairs) for name, _ in pairs}
    kept = [(a, b) for a, b in sorted(pairs) if not any(b in reached.get(c, ()) for x, c in pairs if x == a and c != b)]
    return "\n".join(["flowchart TD", *(f"    {a} --> {b}" for a, b in kept)])


def _reached(name: str, pairs: set[tuple[str, str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        new = {b for a, b in pairs if a == waiting[-1]} - found
        waiting.pop()
        found |= new
        waiting += new
    return found


def main() -> None:
    """Prints the drawing of a package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", nargs="?", default="zoo")
    parser.add_argument("--mermaid", action="store_true", help="print a Mermaid flowchart")
    options = parser.parse_args()
    graph = grimp.build_graph(options.package.partition(".")[0], cache_dir=None)
    print((mermaid if options.mermaid else text)(graph, options.package))


if __name__ == "__main__":
    main()
