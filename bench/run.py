#!/usr/bin/env python3
"""Measures FlexiNS beside TCP on the same paths, in one run, interleaved, and prints the ratios.

bench/run.py --build build/release [--rounds N] [--seconds S] [--only NAME]
Results go to build/bench/ as JSON too; bench/README.md says how to read them.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

import harness  # noqa: E402
import topologies  # noqa: E402

MESSAGE_BYTES = 1 << 20


class Bench:
    def __init__(self, options):
        self.options = options
        self.results = []

    def wanted(self, name):
        return not self.options.only or self.options.only in name

    def note(self, name, ours, theirs, unit, goal=None, smaller_is_better=False):
        """Ratios are taken round by round: what drifts, drifts for both."""
        ratios = [a / b for a, b in zip(ours, theirs)]
        if smaller_is_better:
            ratios = [1 / ratio for ratio in ratios]
        ratio = statistics.median(ratios)
        row = {"name": name, "unit": unit, "flexins": ours, "tcp": theirs, "ratio": ratio,
               "ratios": ratios, "goal": goal}
        self.results.append(row)
        print(f"{name}\n  FlexiNS {spread(ours)} {unit}    TCP {spread(theirs)} {unit}\n"
              f"  {ratio:.2f} times as good as TCP [{min(ratios):.2f} to {max(ratios):.2f}]"
              f"{verdict(goal, f'at least {goal}', ratio >= (goal or 0))}", flush=True)

    def note_value(self, name, values, unit, limit=None):
        value = statistics.median(values)
        self.results.append({"name": name, "unit": unit, "flexins": values, "limit": limit})
        print(f"{name}\n  {spread(values)} {unit}"
              f"{verdict(limit, f'at most {limit} {unit}', value <= (limit or 0))}", flush=True)

    def pair(self, topology, words, **options):
        pair = harness.Pair(topology, words, **options)
        try:
            return pair.finish(60 + self.options.seconds)
        finally:
            pair.kill()

    def write_bandwidth(self, topology):
        words = ["ib_write_bw", "-d", harness.DEVICE, "-x", 0, "-F", "--report_gbits", "-s",
                 MESSAGE_BYTES, "-D", self.options.seconds]
        return row_of(self.pair(topology, words)[1], MESSAGE_BYTES)[3]

    def tcp_bandwidth(self, topology):
        words = ["iperf3", "--json", "-l", "1M", "-t", self.options.seconds]
        output = self.pair(topology, words, server_words=["iperf3", "-s", "-1"], native=True,
                           host_flag="-c")[1]
        return json.loads(output)["end"]["sum_received"]["bits_per_second"] / 1e9

    def write_latency(self, topology):
        words = ["ib_write_lat", "-d", harness.DEVICE, "-x", 0, "-F", "-s", 8, "-n", 20000]
        return row_of(self.pair(topology, words)[1], 8)[4]

    def tcp_latency(self, topology):
        words = ["tcp_pingpong", "-n", 20000, "-s", 8]
        return float(re.search(r"one way ([\d.]+) us", self.pair(topology, words, native=True)[1])
                     .group(1))

    def compare(self, name, topology, ours, theirs, unit, **more):
        """One round of each, in turn."""
        values = ([], [])
        for _ in range(self.options.rounds):
            values[0].append(ours(topology))
            values[1].append(theirs(topology))
        self.note(name, *values, unit, **more)

    def path(self, topology_name, where, goal):
        if reason := topologies.why_not(topology_name):
            print(f"left out, {where}: {reason}")
            return
        with topologies.Topology(topology_name, self.options.build) as topology:
            if self.wanted("bandwidth"):
                self.compare(f"bandwidth of 1 MiB WRITEs, {where}, against iperf3", topology,
                             self.write_bandwidth, self.tcp_bandwidth, "Gbit/s", goal=goal)
            if self.wanted("latency"):
                self.compare(f"latency of 8 B WRITEs, {where}, against a TCP ping-pong", topology,
                             self.write_latency, self.tcp_latency, "us", smaller_is_better=True)

    def idle(self):
        with topologies.Topology("one", self.options.build) as topology:
            host = topology.server
            program = harness.Program(host, ["ibv_asyncwatch", "-d", harness.DEVICE],
                                      topology.folder)
            time.sleep(2)
            pids = {"engine": host.pid(), "program": program.process.pid}
            used = {who: [] for who in pids}
            memory = []
            for _ in range(self.options.rounds):
                before = {who: cpu_seconds(pid) for who, pid in pids.items()}
                time.sleep(self.options.seconds)
                for who, pid in pids.items():
                    busy = (cpu_seconds(pid) - before[who]) / self.options.seconds
                    used[who].append(100 * busy)
                memory.append(resident_mib(pids["engine"]))
            if program.process.poll() is not None:
                raise harness.Failure(program.describe())
            program.kill()
        self.note_value("resident memory of an idle engine", memory, "MiB", 64)
        self.note_value("processor time of an idle engine", used["engine"], "%", 1)
        self.note_value("processor time of an idle program", used["program"], "%", 1)

    def instructions(self):
        """`replay tx|rx` collects one side's steps while 4 KiB packets move, and counts these."""
        replay = pathlib.Path(self.options.build, "bin", "replay")
        if not replay.exists():
            print("left out, instructions per packet: there is no replay program in this build")
            return
        for direction in ("tx", "rx"):
            self.note_value(f"instructions per packet of 4 KiB, {direction.upper()}",
                            [self.count_instructions(replay, direction)], "")

    def count_instructions(self, replay, direction):
        done = subprocess.run(["valgrind", "--tool=callgrind", "--collect-atstart=no",
                               "--callgrind-out-file=/dev/null", str(replay), direction],
                              capture_output=True, text=True, check=False)
        found = re.search(r"Collected : (\d+)", done.stderr)
        if done.returncode != 0 or not found or int(found.group(1)) == 0:
            raise harness.Failure(done.stdout + done.stderr)
        return int(found.group(1)) / int(done.stdout)

    def save(self):
        folder = ROOT / "build" / "bench"
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.datetime.now(datetime.timezone.utc)
        path = folder / f"{now:%Y%m%d-%H%M%S}.json"
        path.write_text(json.dumps({"time": now.isoformat(), "machine": machine(),
                                    "rounds": self.options.rounds,
                                    "seconds": self.options.seconds, "results": self.results},
                                   indent=2) + "\n")
        print(f"written to {path}")


def verdict(goal, words, holds):
    return "" if goal is None else f"; asked for {words}: {'ok' if holds else 'falls short'}"


def spread(values):
    return f"{statistics.median(values):.2f} [{min(values):.2f} to {max(values):.2f}]"


def row_of(output, size):
    for line in output.splitlines():
        words = line.split()
        if words and words[0] == str(size):
            return [float(word) for word in words]
    raise harness.Failure(f"no row for {size} bytes in\n{output}")


def cpu_seconds(pid):
    # The name, in parentheses, may hold blanks.
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+) kB", status).group(1)) / 1024


def machine():
    model = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True,
                            text=True, check=False)
    return {"processor": model.group(1) if model else platform.machine(),
            "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
            "commit": commit.stdout.strip()}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(ROOT / "build" / "release"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each bandwidth measurement")
    parser.add_argument("--only", help="bandwidth, latency, idle or instructions")
    bench = Bench(parser.parse_args())
    here = machine()
    print(f"{here['processor']}, {here['cores']} cores, Linux {here['kernel']}; "
          f"{bench.options.rounds} rounds, medians [least to most]")
    if bench.wanted("bandwidth") or bench.wanted("latency"):
        bench.path("one", "both ends on one engine (TCP: loopback)", 3)
        bench.path("namespaces9000", "between two network namespaces, veth MTU 9000", 1.2)
    if bench.wanted("idle"):
        bench.idle()
    if bench.wanted("instructions"):
        bench.instructions()
    bench.save()
    return 0


if __name__ == "__main__":
    sys.exit(main())
