"""A virtual machine with Debian's kernel and its Soft-RoCE, at the other end of a tap."""

import pathlib
import re
import socket
import subprocess
import threading
import time

HOST = "10.77.0.1"
GUEST = "10.77.0.2"
HOST6 = "fd77::1"
GUEST6 = "fd77::2"
LINK_MTU = 4200  # so that a path MTU of 4096 fits
AGENT_PORT = 7000
BOOT_SECONDS = 150  # an emulated processor on a busy machine; some 5 s else
STATUS = re.compile(r"status (\d+)\n$")


class GuestError(Exception):
    """The guest does not start, or does not answer."""


def ip(*words):
    subprocess.run(["ip", *words], check=True)


def make_tap():
    """The link to the guest; it belongs to our network namespace and ends with it."""
    ip("link", "set", "lo", "up")
    ip("tuntap", "add", "tap0", "mode", "tap")
    # A whole window of small packets waits here while the emulated processor is slow.
    ip("link", "set", "tap0", "mtu", str(LINK_MTU), "txqueuelen", "10000")
    pathlib.Path("/proc/sys/net/ipv6/conf/tap0/accept_dad").write_text("0")
    ip("link", "set", "tap0", "up")
    ip("address", "add", f"{HOST}/24", "dev", "tap0")
    ip("address", "add", f"{HOST6}/64", "dev", "tap0")


def time_stamp_khz():
    """The emulated processor hands on the host's time stamp counter, whose rate the guest's kernel
    cannot measure well on a busy machine."""
    found = re.search(r"cpu MHz\s*:\s*([\d.]+)", pathlib.Path("/proc/cpuinfo").read_text())
    return int(float(found[1]) * 1000) if found else None


class Guest:
    """Runs until stop(); `folder` gets its console."""

    def __init__(self, kernel, initrd, folder):
        self.console = pathlib.Path(folder, "console")
        self.begun = time.monotonic()
        words = ["console=ttyS0", "panic=-1", "quiet", "mitigations=off", "nokaslr", "audit=0",
                 "tsc=reliable", "no_timer_check", f"interop.mtu={LINK_MTU}"]
        if khz := time_stamp_khz():
            words.append(f"tsc_early_khz={khz}")
        # Ahead of what else this machine does: a guest that is kept waiting for seconds lets its
        # peer's retries run out.
        command = ["nice", "-n", "-5", "qemu-system-x86_64", "-M", "q35",
                   "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "384",
                   "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                   "-serial", f"file:{self.console}",
                   "-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no",
                   "-device", f"virtio-net-pci,netdev=net0,host_mtu={LINK_MTU}",
                   "-kernel", str(kernel), "-initrd", str(initrd), "-append", " ".join(words)]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def wait_ready(self):
        """Returns how many seconds it took from the start on."""
        while time.monotonic() < self.begun + BOOT_SECONDS:
            if self.process.poll() is not None:
                raise GuestError(f"QEMU ended: {self.process.stderr.read().decode()}")
            if "ready after" in self.last_words() and self.answers():
                return time.monotonic() - self.begun
            time.sleep(0.05)
        raise GuestError(f"not ready within {BOOT_SECONDS} s\n{self.last_words()}")

    def answers(self):
        try:
            return self.run("true")[0] == 0
        except GuestError:
            return False

    def last_words(self):
        text = self.console.read_text("ascii", "replace") if self.console.exists() else ""
        return "--- console of the guest\n" + text[-3000:]

    def run(self, script, seconds=30):
        """Runs a shell script; gives back (status, output)."""
        try:
            with socket.create_connection((GUEST, AGENT_PORT), 10) as agent:
                agent.settimeout(seconds)
                agent.sendall(script.encode())
                agent.shutdown(socket.SHUT_WR)
                text = b"".join(iter(lambda: agent.recv(65536), b"")).decode(errors="replace")
        except TimeoutError:
            return None, f"(no end within {seconds} s)\n"
        except OSError as error:
            raise GuestError(f"the guest does not answer: {error}\n{self.last_words()}") from error
        found = STATUS.search(text)
        return (int(found[1]), text[:found.start()]) if found else (None, text)

    def check(self, script, seconds=30):
        """As run; a status other than 0 is an error."""
        status, text = self.run(script, seconds)
        if status != 0:
            raise GuestError(f"`{script}` in the guest: status {status}\n{text}")
        return text

    def stop(self):
        self.process.kill()
        self.process.wait()


class GuestProgram:
    """A program in the guest, with what harness.Program offers of one on the host."""

    def __init__(self, guest, words, seconds):
        self.guest = guest
        self.command = " ".join(map(str, words))
        self.status = None
        self.output = ""
        self.seconds = seconds
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def work(self):
        # What overstays is ended in the guest too, or it would hold its port.
        script = f"exec timeout -s KILL {self.seconds} {self.command}"
        try:
            self.status, self.output = self.guest.run(script, self.seconds + 10)
        except GuestError as error:
            self.output = str(error)

    def wait_listening(self, port, seconds=20):
        wanted = f":{port:04X} [0-9A-F]*:0000 0A"
        self.wait_for(f"grep -q '{wanted}' /proc/net/tcp /proc/net/tcp6", seconds)

    def wait_cm_listening(self, seconds=20):
        """Until it listens through rdma_cm."""
        self.wait_for("rdma resource show cm_id | grep -q LISTEN", seconds)

    def wait_for(self, condition, seconds):
        self.guest.check(f"n=0; until {condition}; do usleep 50000; n=$((n+1)); "
                         f"[ $n -lt {seconds * 20} ] || exit 1; done", seconds + 20)

    def wait(self, seconds):
        self.thread.join(seconds)
        return self.status

    def kill(self):
        """It ends by itself after its seconds; to wait for that is all there is to do."""

    def describe(self):
        return f"--- in the guest: {self.command}\n    status {self.status}\n{self.output[-4000:]}"
