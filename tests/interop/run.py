#!/usr/bin/env python3
"""Runs a FlexiNS engine against Linux Soft-RoCE in a virtual machine; see docs/interop.md.

run.py --build build/release --image build/interop [smoke] [--only PATTERN]
Ends with 77 where it cannot be done (no QEMU, no root, no namespaces).
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "e2e"))

import guest as guests  # noqa: E402
import image as images  # noqa: E402
import matrix  # noqa: E402
from bench import Bench  # noqa: E402
from harness import Failure, Host  # noqa: E402

SKIPPED = 77
INITRD = "initrd"
# All that is started ends with the process that this becomes the first of, whatever ends it; so do
# the network namespace and the tap.
OWN_WORLD = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork",
             "--kill-child", "--mount-proc"]


class Programs:
    """Where the programs of a build are; for harness.Host."""

    def __init__(self, build):
        self.build = pathlib.Path(build).resolve()

    def program(self, name):
        ours = self.build / "bin" / name
        return str(ours) if ours.exists() else name


def why_not():
    """Why it cannot be done here; None if it can."""
    if os.geteuid() != 0:
        return "a tap and namespaces need root"
    for program in ("qemu-system-x86_64", "busybox", "cpio", "modinfo", "apt-get"):
        if shutil.which(program, path=os.environ["PATH"] + ":/sbin:/usr/sbin") is None:
            return f"{program} is missing; `./do setup interop` installs it"
    done = subprocess.run([*OWN_WORLD, "ip", "tuntap", "add", "tap0", "mode", "tap"],
                          capture_output=True, text=True, check=False)
    return f"no namespaces or no tap: {done.stderr.strip()}" if done.returncode != 0 else None


def table(rows, head):
    lines = [head, f"{'run':<44} {'':<8} {'seconds':>7}"]
    lines += [f"{name:<44} {verdict:<8} {seconds:>7.1f}  {words}"
              for name, verdict, seconds, words in rows]
    failed = sum(verdict == matrix.FAILED for _, verdict, _, _ in rows)
    return "\n".join([*lines, f"{len(rows)} runs, {failed} failed"])


def inside(options):
    """In a world of our own: as the first process of its namespaces."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # What the network namespace is like, programs ask /sys.
    subprocess.run(["mount", "-t", "sysfs", "sys", "/sys"], check=True)
    runs = [run for run in matrix.all_runs()
            if (run.smoke or not options.smoke) and (options.only or "") in run.name]
    folder = pathlib.Path(options.folder)
    guests.make_tap()
    guest = guests.Guest(images.Image(options.image).kernel, folder / INITRD, folder)
    host = Host(Programs(options.build), "interop", guests.HOST, folder)
    try:
        host.flexins("up", "--name", host.name, "--address", guests.HOST, "--address",
                     guests.HOST6)
        seconds = guest.wait_ready()
        kernel = guest.check("uname -r -v").strip()
        head = f"guest: kernel {kernel}, ready after {seconds:.1f} s"
        print(head, flush=True)
        rows = matrix.play_all(Bench(host, guest, folder), runs)
    except (Failure, guests.GuestError) as failure:
        print(f"{failure}\n{host.report()}", file=sys.stderr)
        return 1
    finally:
        host.down()
        guest.stop()
    print("\n" + table(rows, head))
    return 0 if rows and all(verdict != matrix.FAILED for _, verdict, _, _ in rows) else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("selection", nargs="?", choices=["smoke", "all"], default="all")
    parser.add_argument("--build", required=True)
    parser.add_argument("--image", required=True, help="folder that keeps the guest's image")
    parser.add_argument("--only", help="only runs whose name contains this")
    parser.add_argument("--folder", help=argparse.SUPPRESS)  # inside: for what lasts one run
    options = parser.parse_args()
    options.smoke = options.selection == "smoke"
    if options.folder:
        return inside(options)
    if reason := why_not():
        print(f"skipped: {reason}")
        return SKIPPED
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="flexins-interop-") as folder:
        try:
            image = images.Image(options.image)
            image.ensure(print)
            image.with_programs(options.build, pathlib.Path(folder, INITRD))
        except images.Unavailable as reason:
            print(f"skipped: {reason}")
            return SKIPPED
        world = subprocess.Popen([*OWN_WORLD, sys.executable, __file__, *sys.argv[1:],
                                  "--folder", folder])
        signal.signal(signal.SIGTERM, lambda *_: world.kill())
        try:
            status = world.wait()
        except KeyboardInterrupt:
            world.kill()
            status = world.wait()
    if status != SKIPPED:
        print(f"{time.monotonic() - begin:.0f} s in all")
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
