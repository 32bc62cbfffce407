#!/usr/bin/env python3
"""Makes the table of docs/compatibility.md from what the end-to-end tests of a build recorded, and
the short one of README.md from that.

tests/e2e/compatibility.py --build build/release [--write docs/compatibility.md]
                           [--readme README.md]
Replaces what is between the two marks of each file; without --write it prints the table.
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
    # Where there are alternatives of a program, its name is a link that no package owns.
    for name in (path, str(pathlib.Path(path).resolve())):
        owner = subprocess.run(["dpkg-query", "-S", name], capture_output=True, text=True,
                               check=False)
        if owner.returncode == 0:
            break
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


def summary(table):
    """The table by packages: whose programs were tried, and how their tests ended."""
    packages = collections.defaultdict(lambda: [[], 0, 0])
    for row in re.findall(r"(?m)^\| `(.+?)` \| (.+?) \| .* \| (\d+) of (\d+) \|$", table):
        entry = packages[row[1]]
        entry[0].append(row[0])
        entry[1] += int(row[2])
        entry[2] += int(row[3])
    text = "| Debian's package | programs tried | tests that passed |\n|---|---|---|\n"
    for name, (programs, passed, total) in sorted(packages.items()):
        tried = f"`{programs[0]}`" if len(programs) == 1 else f"{len(programs)}"
        text += f"| {name} | {tried} | {passed} of {total} |\n"
    return text


def replace(path, table):
    """Puts it between the two marks of a file."""
    path = pathlib.Path(path)
    pattern = re.compile(re.escape(BEGIN) + ".*" + re.escape(END), re.DOTALL)
    path.write_text(pattern.sub(lambda _: BEGIN + table + END, path.read_text()))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--write", help="the file to put the table into")
    parser.add_argument("--readme", help="the file to put the table by packages into")
    options = parser.parse_args()
    table = "| program | package | group of tests: topologies | tests that passed |\n"
    table += "|---|---|---|---|\n"
    table += "".join(rows(collect(pathlib.Path(options.build, "compatibility"))))
    if options.write:
        replace(options.write, table)
    else:
        print(table, end="")
    if options.readme:
        replace(options.readme, summary(table))


if __name__ == "__main__":
    main()
