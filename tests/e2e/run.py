#!/usr/bin/env python3
"""Runs one group of end-to-end tests over one topology.

run.py --build build/release --group bandwidth --topology two [--soak] [--only PATTERN]
Ends with 77 where the topology cannot be had (network namespaces without root).
"""

import argparse
import json
import pathlib
import signal
import sys
import unittest

import breadth
import connections
import control
import datagrams
import failures
import harness
import libfabric
import mpi
import neighbours
import notifications
import operations
import programs
import rdmacm
import resources
import storage
import suite
import topologies
import ucx
import xrc

SKIPPED = 77


class Recorder(unittest.TextTestResult):
    """Also notes which programs each test ran; compatibility.py makes a table of it."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.records = []

    def startTest(self, test):
        harness.STARTED.clear()
        self.bad_before = len(self.failures) + len(self.errors)
        self.skipped_before = len(self.skipped)
        super().startTest(test)

    def stopTest(self, test):
        super().stopTest(test)
        bad = len(self.failures) + len(self.errors) > self.bad_before
        if len(self.skipped) == self.skipped_before:
            self.records.append({"test": test.id(), "programs": sorted(harness.STARTED),
                                 "passed": not bad})


def keep(records, options):
    folder = pathlib.Path(options.build, "compatibility")
    folder.mkdir(exist_ok=True)
    path = folder / f"{options.group}-{options.topology}.json"
    path.write_text(json.dumps(records, indent=1) + "\n")


def interrupt(number, _frame):
    """Ends the run in a way that unittest lets through, so that everything is cleaned up."""
    raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")


def main():
    modules = (breadth, connections, control, datagrams, failures, libfabric, mpi, neighbours,
               notifications, operations, programs, rdmacm, resources, storage, suite, ucx, xrc)
    groups = {name: case for module in modules for name, case in module.GROUPS.items()}
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--group", required=True, choices=sorted(groups))
    parser.add_argument("--topology", required=True, choices=topologies.NAMES)
    parser.add_argument("--soak", action="store_true", help="the long doses")
    parser.add_argument("--limit", type=int, default=0, help="seconds; then it fails")
    parser.add_argument("--only", help="only tests whose name contains this")
    options = parser.parse_args()

    # CTest would kill what takes too long, and leave engines and namespaces behind: be earlier.
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(options.limit)
    if reason := topologies.why_not(options.topology):
        print(f"skipped: {reason}")
        return SKIPPED
    case = groups[options.group]
    loader = unittest.TestLoader()
    if options.only:
        loader.testNamePatterns = [f"*{options.only}*"]
    with topologies.Topology(options.topology, options.build) as topology:
        case.topology = topology
        case.soak = options.soak
        runner = unittest.TextTestRunner(verbosity=2, resultclass=Recorder)
        result = runner.run(loader.loadTestsFromTestCase(case))
    if not options.only:
        keep(result.records, options)
    return 0 if result.wasSuccessful() and result.testsRun > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
