"""What is run between FlexiNS and Linux, and how each run is judged."""

import re
import subprocess
import sys
import time

from bench import FROM_LINUX, TO_LINUX
from guest import GUEST6, HOST, HOST6, GuestError
from harness import Failure
from segments import Watch

SIZES = (0, 1, 4095, 65536, 300_000)
FEW_SIZES = (5, 20_000)
FAILED = "FAILED"
GUEST_ERRORS = ("out_of_seq_request", "duplicate_request", "rcvd_seq_err", "completer_retry_err",
                "retry_exceeded_err")
# What of verbs our device has so far; runs of the rest wait for it.
OURS = {"rc", "atomics", "uc", "ud", "srq"}


class Run:
    """One row of the table: `play` raises Failure or says in some words what was seen."""

    def __init__(self, name, play, smoke=False):
        self.name = name
        self.play = play
        self.smoke = smoke  # part of the short selection


def verbs_pair(bench, direction, cases, ipv6=False):
    """Our own program, which checks every byte on both sides."""
    def words_on(device, _gid, role, address, port):
        words = ["verbs_pair", "-d", device, "-p", port, *(["-6"] if ipv6 else [])]
        if ipv6:
            address = HOST6 if address == HOST else GUEST6
        return words if role == "server" else [*words, address, *cases]
    _, client = bench.pair(direction, words_on)
    if f"{len(cases)} cases, 0 wrong" not in client:
        raise Failure(client)
    return f"{len(cases)} cases"


def atomic_cases(count):
    return case_list("rc", ATOMICS, (8,), (1024,), count) if "atomics" in OURS else []


def case_list(kind, operations, sizes, mtus, count, *flags):
    return ["/".join(map(str, (kind, operation, size, count, mtu, *flags)))
            for mtu in mtus for operation in operations for size in sizes]


DATA = ("send", "send_imm", "write", "write_imm", "read")
ATOMICS = ("fadd", "cas")


def segmented(bench):
    """A train that the kernel cuts for the tap: identifications 0, 1, 2 … and the guest takes all
    at the first try, so each segment's ICRC is right."""
    before = bench.guest_counters()
    trains = bench.host.count("tx_trains")
    with Watch("tap0", HOST) as watch:
        verbs_pair(bench, TO_LINUX, ["rc/write/262144/8/1024", "rc/send/262144/8/4096"])
    after = bench.guest_counters()
    wrong = {name: after[name] - before[name] for name in GUEST_ERRORS
             if after.get(name, 0) != before.get(name, 0)}
    trains = bench.host.count("tx_trains") - trains
    log = bench.guest.run("dmesg | grep -ic icrc")[1].strip()
    if wrong or log != "0" or trains == 0 or watch.longest < 8:
        raise Failure(f"guest counted {wrong}, {log} lines about ICRC; {trains} trains sent, "
                      f"longest run of identifications {watch.longest}")
    return f"{trains} trains, up to {watch.longest} segments, {watch.packets} packets"


def perftest(bench, direction, program, *more):
    def words_on(device, gid, role, address, port):
        words = [program, "-d", device, "-x", gid, "-F", "-p", port, *more]
        return words if role == "server" else [*words, address]
    server, client = bench.pair(direction, words_on)
    if re.search(r"(?i)completion with error|failed status|couldn't", server + client):
        raise Failure(server + client)
    return ""


def cm_program(bench, direction, program, server_flags, client_flags, *more, address6=False,
               port_flag=("-p",)):
    """A program that finds its peer through rdma_cm."""
    def words_on(_device, _gid, role, address, port):
        if address6:
            address = HOST6 if address == HOST else GUEST6
        flags = server_flags if role == "server" else client_flags
        port_words = [*port_flag, port] if port_flag else []
        return [program, *flags, address, *port_words, *more]
    server, client = bench.pair(direction, words_on, through_cm=True)
    if program != "rping" and not all("return status 0" in text for text in (server, client)):
        raise Failure(server + client)
    return ""


def rping(bench, direction, *more, **options):
    return cm_program(bench, direction, "rping", ("-s", "-a"), ("-c", "-a"), "-C", 20, "-V", *more,
                      **options)


def ucmatose(bench, direction):
    return cm_program(bench, direction, "ucmatose", ("-b",), ("-s",), "-c", 5, "-C", 5)


def udaddy(bench, direction):
    # Its port is always the same; -p is another thing.
    return cm_program(bench, direction, "udaddy", ("-b",), ("-s",), "-c", 3, "-C", 5,
                      port_flag=())


def lossy_rping(bench, direction):
    return with_loss(1, lambda b: rping(b, direction, "-S", 5000))(bench)


def cm_runs():
    runs = for_both("rping", True, rping)
    runs += for_both("rping of 60,000 bytes", False, lambda b, d: rping(b, d, "-S", 60_000))
    runs += for_both("rping, IPv6", False, lambda b, d: rping(b, d, address6=True))
    runs += for_both("rping, 1 % lost", False, lossy_rping)
    runs += for_both("ucmatose", True, ucmatose)
    return runs + for_both("udaddy", False, udaddy)


def both_devices(bench):
    """Where the kernel has a device of its own, a program under `flexins run` sees ours too. The
    kernel's driver has UDP port 4791 of all addresses, so the engine has a network namespace."""
    text = bench.guest.check(
        "export FLEXINS_RUNTIME_DIR=/run PATH=$PATH:/opt/flexins/bin; "
        "unshare -n sh -c '/usr/bin/ip link set lo up; flexins up --address 127.0.0.1' && "
        "flexins run -- ibv_devices && flexins down", 60)
    if "rxe0" not in text or "flexins0" not in text:
        raise Failure(text)
    return "rxe0 and flexins0"


def with_loss(percent, play):
    def lossy(bench):
        bench.set_faults(percent)
        try:
            return play(bench)
        finally:
            bench.set_faults(0)
    return lossy


def for_both(name, smoke, play):
    """`play(bench, direction)` as two runs."""
    return [Run(f"{name}, {direction}", lambda bench, d=direction: play(bench, d), smoke)
            for direction in (TO_LINUX, FROM_LINUX)]


def data_runs(name, smoke, cases, ipv6=False, percent=0):
    def play(bench, direction):
        if percent == 0:
            return verbs_pair(bench, direction, cases, ipv6)
        return with_loss(percent, lambda b: verbs_pair(b, direction, cases, ipv6))(bench)
    return for_both(name, smoke, play)


def unreliable_runs(kind, operations, sizes):
    """What is sent is little enough for the tap's queue: nothing holds the sender back."""
    cases = case_list(kind, operations, sizes, (1024, 4096), 6)
    lossy = case_list(kind, ("send_imm",), (1000,), (1024,), 64, "lossy")
    return (data_runs(kind, True, cases) + data_runs(f"{kind}, IPv6", False, cases, ipv6=True) +
            data_runs(f"{kind}, 3 % lost", False, lossy, percent=3))


def all_runs():
    runs = [Run("segmented trains", segmented, True)]
    runs += data_runs("rc, in short", True,
                      case_list("rc", DATA, (1, 20_000), (1024,), 8) +
                      atomic_cases(8) + ["rc/write/100000/4/4096", "rc/send/5000/4/1024/late"])
    for mtu in (256, 1024, 4096):
        runs += data_runs(f"rc, MTU {mtu}", False, case_list("rc", DATA, SIZES, (mtu,), 12))
    if "atomics" in OURS:
        runs += data_runs("rc atomics", False, atomic_cases(64))
        runs += for_both("ib_atomic_bw", False, lambda bench, direction: perftest(
            bench, direction, "ib_atomic_bw", "-n", 100))
    runs += data_runs("rc, receiver not ready", False,
                      case_list("rc", ("send", "send_imm", "write_imm"), FEW_SIZES, (1024,), 8,
                                "late"))
    runs += data_runs("rc, IPv6", False, case_list("rc", DATA, FEW_SIZES, (1024, 4096), 12) +
                      atomic_cases(12), ipv6=True)
    runs += data_runs("rc, 1 % lost", True, case_list("rc", DATA, (20_000,), (1024,), 8) +
                      atomic_cases(8), percent=1)
    runs += data_runs("rc, 3 % lost", False, case_list("rc", DATA, FEW_SIZES, (1024,), 8) +
                      atomic_cases(16), percent=3)
    runs += data_runs("rc, IPv6, 1 % lost", False, case_list("rc", DATA, (20_000,), (1024,), 8),
                      ipv6=True, percent=1)
    for verb in ("write", "read", "send"):
        program = f"ib_{verb}_bw"
        runs += for_both(program, verb == "write", lambda bench, direction, p=program: perftest(
            bench, direction, p, "-s", 32768, "-n", 100, "-m", 1024))
    runs += for_both("ib_write_lat", False, lambda bench, direction: perftest(
        bench, direction, "ib_write_lat", "-s", 64, "-n", 100))
    if "uc" in OURS:
        runs += unreliable_runs("uc", ("send", "send_imm", "write", "write_imm"),
                                (0, 1, 4095, 50_000))
    if "ud" in OURS:
        runs += unreliable_runs("ud", ("send", "send_imm"), (0, 1, 1000))
    if "srq" in OURS:
        shared = case_list("rc", ("send_imm", "write_imm"), FEW_SIZES, (1024,), 16, "srq")
        runs += data_runs("srq", True, shared)
        runs += data_runs("srq, 1 % lost", False, shared, percent=1)
    runs += cm_runs()
    runs.append(Run("both devices in the guest", both_devices, True))
    return runs


def play_once(bench, run):
    """(whether it is right, what was seen)"""
    try:
        return True, run.play(bench)
    except (Failure, GuestError, subprocess.SubprocessError) as failure:
        print(failure, file=sys.stderr, flush=True)
        return False, ""


def play_all(bench, runs):
    """Plays and prints a line for each; returns [(name, verdict, seconds, words)]. What fails has a
    second chance: it runs on real time, and an emulated processor may be kept from running."""
    rows = []
    for number, run in enumerate(runs, 1):
        print(f"[{number}/{len(runs)}] {run.name} …", flush=True)
        begin = time.monotonic()
        verdict = "ok"
        is_right, words = play_once(bench, run)
        if not is_right:
            print("    once more …", flush=True)
            is_right, words = play_once(bench, run)
            verdict = "ok, 2nd" if is_right else FAILED
        rows.append((run.name, verdict, time.monotonic() - begin, words))
        print(f"    {verdict}, {rows[-1][2]:.1f} s {words}", flush=True)
    return rows
