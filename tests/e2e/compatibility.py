#!/usr/bin/env python3
"""Makes the table of docs/compatibility.md from what the end-to-end tests of a build recorded.

tests/e2e/compatibility.py --build build/release [--write docs/compatibility.md]
Replaces what is between the two marks of that file; without --write it prints the table.
"""

import argparse
import collections
import json
import pathlib
import re
import shutil
import subprocess

# What starts other programs is not what is tried.
HELPERS = {"sh", "stdbuf", "env"}
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def package(path):
    """Debian's package of a program and its version; None where it is none of Debian's."""
    owner = subprocess.run(["dpkg-query", "-S", path], capture_output=True, text=True, check=False)
    if owner.returncode != 0:
        return None
    name = owner.stdout.split(":")[0]
    version = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True,
                             text=True, check=True)
    return f"{name} {version.stdout}"


def collect(folder):
    """Of each program: (group, topology) → [tests passed, tests]."""
    programs = collections.defaultdict(lambda: collections.defaultdict(lambda: [0, 0]))
    for path in sorted(folder.glob("*-*.json")):
        group, topology = path.stem.rsplit("-", 1)
        for record in json.loads(path.read_text()):
            for program in record["programs"]:
                count = programs[pathlib.Path(program).name][(group, topology)]
                count[0] += record["passed"]
                count[1] += 1
    return programs


def rows(programs):
    for program, runs in sorted(programs.items()):
        found = shutil.which(program)
        where = package(found) if found and program not in HELPERS else None
        if where is None:
            continue  # an example of our own
        topologies = collections.defaultdict(list)
        for group, topology in sorted(runs):
            topologies[group].append(topology)
        tried = "; ".join(f"{group}: {', '.join(over)}" for group, over in topologies.items())
        passed, total = (sum(column) for column in zip(*runs.values()))
        yield f"| `{program}` | {where} | {tried} | {passed} of {total} |\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--write", help="the file to put the table into")
    options = parser.parse_args()
    table = "| program | package | group of tests: topologies | tests that passed |\n"
    table += "|---|---|---|---|\n"
    table += "".join(rows(collect(pathlib.Path(options.build, "compatibility"))))
    if not options.write:
        print(table, end="")
        return
    path = pathlib.Path(options.write)
    text = path.read_text()
    pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
    path.write_text(pattern.sub(lambda _: BEGIN + table + END, text))


if __name__ == "__main__":
    main()
