#!/usr/bin/env python3
"""Guards the style and the layering of the source tree.

tidy.py --root DIR --build DIR    checks the tree; prints one line per finding; status 1 if any
tidy.py --self-test               shows on small bad trees that each rule can fail
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

LINES_MAX = 500
COLUMNS_MAX = 100

# A room of src/ and the rooms whose headers its files may include (its own goes without saying).
ENGINE_SIDE = {"base", "wire", "memory", "transport", "cm", "pipe", "protocol", "offload", "port"}
LAYERS = {
    "base": set(),
    "wire": {"base"},
    "memory": {"base"},
    "transport": {"base", "wire", "memory"},
    "cm": {"base", "wire"},
    "pipe": {"base"},
    "protocol": {"base", "pipe"},
    "offload": {"base", "memory", "transport"},
    "port": {"base", "wire"},
    "window": {"base", "memory"},
    "engine": ENGINE_SIDE,
    "daemon": ENGINE_SIDE | {"window", "engine"},
    "provider": {"base", "pipe", "protocol", "window"},
    "preload": {"base", "protocol"},
    "sim": ENGINE_SIDE | {"engine"},
    "cli": {"base", "protocol", "sim"},
}
# Where only some headers of a room may be known.
ONLY_HEADERS = {
    ("engine", "port"): {"port/port.h"},
    ("sim", "port"): {"port/port.h", "port/local_port.h", "port/pcapng.h"},
    ("offload", "transport"): {"transport/interfaces.h"},
}

SOURCE = {".h", ".cc", ".c"}
CODE = SOURCE | {".py", ".sh", ".cmake"}
CODE_NAMES = {"CMakeLists.txt", "do", "run", "flexins"}
TEXT = CODE | {".md", ".txt", ".json", ".toml", ".yml", ".yaml"}
SKIPPED_FOLDERS = {".git", "build", "vectors", "__pycache__", ".cache"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]', re.MULTILINE)
# Spelt in pieces, as this file is checked too.
NOTE_WORDS = re.compile(r"\b(" + "|".join(["TO" "DO", "FIX" "ME", "XX" "X"]) + r")\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/" + r"(work|home/\w+|root|Users)/")


def text_files(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED_FOLDERS)
        for name in sorted(names):
            path = pathlib.Path(folder, name)
            if path.suffix in TEXT or name in CODE_NAMES:
                yield path


def is_code(path):
    return path.suffix in CODE or path.name in CODE_NAMES


def check_lines(path, text):
    """Yields (line number, message); line number 0 stands for the whole file."""
    lines = text.splitlines()
    if is_code(path) and len(lines) > LINES_MAX:
        yield 0, f"{len(lines)} lines; at most {LINES_MAX}"
    if path.suffix == ".h" and "#pragma once" not in lines:
        yield 0, "no '#pragma once'"
    if text and not text.endswith("\n"):
        yield len(lines), "no newline at the end of the file"
    for number, line in enumerate(lines, 1):
        if is_code(path) and len(line) > COLUMNS_MAX:
            yield number, f"{len(line)} columns; at most {COLUMNS_MAX}"
        if "\t" in line:
            yield number, "tab"
        if line != line.rstrip():
            yield number, "blank at the end of the line"
        if found := NOTE_WORDS.search(line):
            yield number, f"'{found.group(1)}': finish it, or file it where tasks are kept"
        if found := MACHINE_PATH.search(line):
            yield number, f"path of one machine: '{found.group(0)}'"


def check_includes(root, build, path, text):
    """The layering. Outside src/ only the form of project includes is looked at."""
    parts = path.relative_to(root).parts
    room = parts[1] if parts[0] == "src" and len(parts) > 2 else None
    if room is not None and room not in LAYERS:
        yield 0, f"room '{room}' is not in the table of layers"
        return
    for match in INCLUDE.finditer(text):
        number = text.count("\n", 0, match.start(2)) + 1
        bracket, name = match.groups()
        target = name.split("/")[0]
        if bracket == "<":
            if (root / "src" / name).is_file():
                yield number, f"<{name}> is a project header: write it in quotes"
            continue
        if room is None:
            continue
        if (build / "src" / room / "generated" / name).is_file():
            continue
        if "/" not in name or target not in LAYERS or not (root / "src" / name).is_file():
            yield number, f'"{name}": project includes are "room/file.h", seen from src/'
        elif target != room and target not in LAYERS[room]:
            allowed = ", ".join(sorted(LAYERS[room])) or "no other room"
            yield number, f"{room} may not include from {target} (it may: {allowed})"
        elif name not in ONLY_HEADERS.get((room, target), {name}):
            allowed = ", ".join(sorted(ONLY_HEADERS[room, target]))
            yield number, f"of {target}, {room} may include only {allowed}"


def compile_flags(root, build):
    """Per source folder, compiler and flags from compile_commands.json; '' is the default."""
    flags = {"": ["c++", "-std=c++20", f"-I{root / 'src'}",
                  f"-I{root / 'examples'}"]}
    database = build / "compile_commands.json"
    if not database.is_file():
        return flags
    for entry in json.loads(database.read_text()):
        words = shlex.split(entry["command"])
        while pathlib.Path(words[0]).name == "ccache":
            words.pop(0)
        if not words[0].endswith("++"):
            continue
        kept = [words[0]]
        following = iter(words[1:])
        for word in following:
            if word in ("-isystem", "-I", "-D", "-include"):
                kept += [word, next(following)]
            elif re.match(r"-(I|D|std=|W(?!error))", word):
                kept.append(word)
        flags.setdefault(str(pathlib.Path(entry["file"]).parent), kept)
        flags[""] = kept if len(kept) > len(flags[""]) else flags[""]
    return flags


def closure(root, path, seen):
    """`path` and the project headers that it includes, directly or not."""
    if path in seen:
        return
    seen.add(path)
    for _, name in INCLUDE.findall(path.read_text()):
        for candidate in (root / "src" / name, path.parent / name):
            if candidate.is_file():
                closure(root, candidate.resolve(), seen)


def check_headers(root, build, headers):
    """Compiles each header as the only include of a source file. What compiled once and has not
    changed since, nor anything that it includes, is not compiled again."""
    cache_path = build / "tidy_headers.json"
    cache = set()
    with contextlib.suppress(OSError, ValueError):
        cache = set(json.loads(cache_path.read_text()))
    flags = compile_flags(root, build)
    good = set()

    def compile_one(header):
        command = flags.get(str(header.parent), flags[""]) + ["-fsyntax-only", "-x", "c++", "-"]
        needed = set()
        closure(root, header, needed)
        digest = hashlib.sha256(" ".join(command).encode())
        for part in sorted(needed):
            digest.update(str(part).encode() + part.read_bytes())
        key = digest.hexdigest()
        if key not in cache:
            done = subprocess.run(command, input=f'#include "{header}"\n', text=True,
                                  stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, check=False)
            if done.returncode != 0:
                lines = [line for line in done.stderr.splitlines() if "error" in line]
                return header, "does not compile alone: " + (lines or ["?"])[0]
        good.add(key)
        return None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for finding in filter(None, pool.map(compile_one, headers)):
            yield finding
    cache_path.write_text(json.dumps(sorted(good)))


def check_tree(root, build):
    """All findings of the tree as printable lines."""
    findings = []
    headers = []
    for path in text_files(root):
        text = path.read_text(encoding="utf-8")
        found = list(check_lines(path, text))
        if path.suffix in SOURCE:
            found += check_includes(root, build, path, text)
        if path.suffix == ".h":
            headers.append(path)
        name = path.relative_to(root)
        findings += [f"{name}:{number}: {message}" for number, message in found]
    for path, message in check_headers(root, build, headers):
        findings.append(f"{path.relative_to(root)}:0: {message}")
    return findings


# Each bad tree: its one file, what is in it, and what the finding must say ('' = no finding).
GOOD_HEADER = "#pragma once\n#include <cstdint>\nusing Count = uint32_t;\n"
SELF_TEST = [
    ("src/wire/a.h", GOOD_HEADER, ""),
    ("src/wire/a.h", '#pragma once\n#include "base/ok.h"\n', ""),
    ("src/base/a.h", '#pragma once\n#include "wire/ok.h"\n', "base may not include from wire"),
    ("src/transport/a.cc", '#include "port/ok.h"\n', "transport may not include from port"),
    ("src/engine/a.cc", '#include "port/port.h"\n', ""),
    ("src/engine/a.cc", '#include "port/ok.h"\n', "engine may include only port/port.h"),
    ("src/engine/a.cc", '#include "window/ok.h"\n', "engine may not include from window"),
    ("src/provider/a.cc", '#include "engine/ok.h"\n', "provider may not include from engine"),
    ("src/wire/a.cc", "#include <base/ok.h>\n", "write it in quotes"),
    ("src/wire/a.cc", '#include "ok.h"\n', "seen from src/"),
    ("src/wire/a.cc", '#include "../base/ok.h"\n', "seen from src/"),
    ("src/cellar/a.cc", "\n", "not in the table of layers"),
    ("src/wire/a.cc", "int a;\n" * 500, ""),
    ("src/wire/a.cc", "int a;\n" * 501, "501 lines"),
    ("src/wire/a.cc", "//" + "é" * 98 + "\n", ""),
    ("src/wire/a.cc", "//" + "é" * 99 + "\n", "101 columns"),
    ("src/wire/a.h", "using Count = int;\n", "no '#pragma once'"),
    ("src/wire/a.h", "#pragma once\nusing Count = uint32_t;\n", "does not compile alone"),
    ("src/wire/a.cc", "\tint a;\n", "tab"),
    ("src/wire/a.cc", "int a; \n", "blank at the end"),
    ("src/wire/a.cc", "int a;", "no newline"),
    ("tests/wire/a.cc", "// TO" "DO\n", "finish it"),
    ("docs/a.md", "see /wo" "rk/x\n", "path of one machine"),
]


def self_test():
    failures = 0
    for name, content, expected in SELF_TEST:
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder).resolve()
            (root / "build").mkdir()
            for room in LAYERS:
                (root / "src" / room).mkdir(parents=True)
                (root / "src" / room / "ok.h").write_text(GOOD_HEADER)
            (root / "src/port/port.h").write_text(GOOD_HEADER)
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content, encoding="utf-8")
            output = io.StringIO()
            with contextlib.redirect_stdout(output):
                status = report(check_tree(root, root / "build"))
            text = output.getvalue()
            as_expected = status == 1 and expected in text if expected else status == 0
            if not as_expected:
                failures += 1
                print(f"{name} with {content[:60]!r}: wanted {expected!r}, got:\n{text}")
    print(f"{len(SELF_TEST)} small trees, {failures} judged wrongly")
    return 1 if failures else 0


def report(findings):
    for finding in findings:
        print(finding)
    print(f"tidy: {len(findings)} findings" if findings else "tidy: nothing to say")
    return 1 if findings else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    if not options.root or not options.build:
        parser.error("--root and --build are needed")
    return report(check_tree(options.root.resolve(), options.build.resolve()))


if __name__ == "__main__":
    sys.exit(main())
