"""The guest's kernel and its initial file system: Debian's, cut down to what the runs use."""

import lzma
import os
import pathlib
import re
import shutil
import struct
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
KERNEL = "linux-image-amd64"
MODULES = ["virtio_pci", "virtio_net", "crc32_generic", "ib_uverbs", "rdma_ucm", "rdma_rxe",
           "sch_netem"]
PROGRAMS = ["ip", "tc", "rdma", "ibv_devices", "ibv_devinfo", "rping", "ucmatose", "udaddy",
            "ib_send_bw", "ib_write_bw", "ib_read_bw", "ib_write_lat", "ib_atomic_bw"]
PROVIDER = "rxe"  # of libibverbs
PROVIDERS = pathlib.Path("/usr/lib/x86_64-linux-gnu/libibverbs")


class Unavailable(Exception):
    """What the guest is made of cannot be had here."""


def output(*words, **options):
    return subprocess.run(words, check=True, capture_output=True, text=True, **options).stdout


class Tree:
    """A folder that becomes the guest's root, or a part of it."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)

    def path(self, inside):
        place = self.root / str(inside).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def add(self, source, inside):
        shutil.copy2(source, self.path(inside))

    def add_program(self, source, inside, env=None):
        """Also the libraries that it is linked with."""
        self.add(source, inside)
        listed = subprocess.run(["ldd", source], capture_output=True, text=True, check=False,
                                env=os.environ | (env or {})).stdout
        for library in re.findall(r"(/\S+) \(0x", listed):
            inside = pathlib.Path("/lib64" if "ld-linux" in library else "/lib/x86_64-linux-gnu",
                                  pathlib.Path(library).name)
            if not (self.root / str(inside).lstrip("/")).exists():
                self.add(library, inside)

    def pack(self, archive):
        """As an uncompressed archive: the emulated processor would unpack it slowly."""
        names = "\n".join(sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*")))
        with open(archive, "wb") as file:
            subprocess.run(["cpio", "-o", "-H", "newc", "--quiet", "-R", "0:0"],
                           input=names.encode(), stdout=file, cwd=self.root, check=True)


def kernel_package():
    """Name of the package that the newest kernel of this Debian is in; None: apt knows none."""
    done = subprocess.run(["apt-cache", "depends", KERNEL], capture_output=True, text=True,
                          check=False)
    found = re.search(r"Depends: (linux-image-\S+)", done.stdout)
    return found[1] if found else None


def unpack_kernel(package, folder):
    """Downloads and unpacks; installs nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package],
                          cwd=folder, capture_output=True, text=True, check=False)
    debs = list(folder.glob("*.deb"))
    if done.returncode != 0 or len(debs) != 1:
        raise Unavailable(f"cannot download {package}: {done.stderr.strip()}")
    subprocess.run(["dpkg-deb", "-x", debs[0], folder], check=True)
    debs[0].unlink()


def uncompressed_kernel(bzimage):
    """The ELF file inside a bzImage, where we can read its compression; else the bzImage.

    The boot protocol (Documentation/arch/x86/boot.rst) says where it lies. QEMU can start it
    directly, and the emulated processor need not unpack it.
    """
    data = bzimage.read_bytes()
    setup_sectors = data[0x1f1] or 4
    offset, length = struct.unpack_from("<II", data, 0x248)
    begin = (setup_sectors + 1) * 512 + offset
    try:
        elf = lzma.LZMADecompressor().decompress(data[begin:begin + length])
    except lzma.LZMAError:
        return data
    return elf if elf.startswith(b"\x7fELF") else data


class Modules:
    """Kernel modules below a folder, and what each needs."""

    def __init__(self, folder):
        self.files = {file.name.split(".")[0].replace("-", "_"): file
                      for file in folder.rglob("*.ko*")}

    def in_order(self, names):
        """`names` and all that they need, those needed first."""
        ordered = {}
        for name in names:
            self.visit(name, ordered)
        return list(ordered.values())

    def visit(self, name, ordered):
        file = self.files.get(name)
        if name in ordered or file is None:  # built in
            return
        needs = output("/sbin/modinfo", "-F", "depends", str(file)).strip()
        for needed in filter(None, needs.replace("-", "_").split(",")):
            self.visit(needed, ordered)
        ordered[name] = file


def add_modules(tree, kernel_folder):
    order = []
    for file in Modules(kernel_folder / "lib/modules").in_order(MODULES):
        if file.suffix == ".xz":
            plain = file.with_suffix("")
            plain.write_bytes(lzma.decompress(file.read_bytes()))
            file = plain
        tree.add(file, f"/modules/{file.name}")
        order.append(file.name)
    tree.path("/modules/order").write_text("\n".join(order) + "\n")


def programs():
    """Where the guest's programs are on this machine."""
    paths = [shutil.which(name, path="/usr/bin:/usr/sbin:/bin:/sbin") for name in PROGRAMS]
    if None in paths:
        missing = PROGRAMS[paths.index(None)]
        raise Unavailable(f"no program {missing}; `./do setup interop` installs it")
    return paths


def add_userland(tree):
    tree.add(shutil.which("busybox"), "/bin/busybox")
    for path in programs():
        tree.add_program(path, f"/usr/bin/{pathlib.Path(path).name}")
    for driver in PROVIDERS.glob(f"lib{PROVIDER}-rdmav*.so"):
        tree.add_program(driver, driver)
    tree.add(f"/etc/libibverbs.d/{PROVIDER}.driver", f"/etc/libibverbs.d/{PROVIDER}.driver")
    # pthread_exit and pthread_cancel open it by name.
    tree.add("/lib/x86_64-linux-gnu/libgcc_s.so.1", "/lib/x86_64-linux-gnu/libgcc_s.so.1")
    for folder in ("dev", "proc", "sys", "tmp", "run"):
        tree.path(f"/{folder}/x").parent.mkdir(exist_ok=True)
    tree.path("/etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    tree.path("/etc/hosts").write_text("127.0.0.1 localhost\n")
    tree.add(HERE / "init", "/init")
    tree.path("/init").chmod(0o755)


class Image:
    """`kernel` and `base`, built once and kept in a folder until the recipe changes."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.kernel = self.folder / "kernel"
        self.base = self.folder / "base.cpio"
        self.stamp = self.folder / "made-of"

    def ensure(self, say):
        """Builds it where it is missing or old. Without knowledge of packages an image that is
        there will do."""
        recipe = self.recipe()
        known = self.stamp.read_text() if self.stamp.exists() else ""
        made_of, _, made_by = known.partition("\n")
        package = kernel_package()
        if made_by == recipe and package in (None, made_of):
            return
        if package is None:
            subprocess.run(["apt-get", "-q", "update"], stdout=subprocess.DEVNULL, check=False)
            package = kernel_package()
        if package is None:
            raise Unavailable(f"no package {KERNEL} is known")
        say(f"building the guest from {package}")
        unpacked = self.folder / "unpacked"
        shutil.rmtree(unpacked, ignore_errors=True)
        unpack_kernel(package, unpacked)
        self.kernel.write_bytes(uncompressed_kernel(next((unpacked / "boot").glob("vmlinuz-*"))))
        tree = Tree(self.folder / "root")
        add_modules(tree, unpacked)
        add_userland(tree)
        tree.pack(self.base)
        shutil.rmtree(unpacked)
        self.stamp.write_text(f"{package}\n{recipe}")

    @staticmethod
    def recipe():
        """All that decides what is in the image, but for the kernel's package."""
        texts = [pathlib.Path(file).read_text() for file in (__file__, HERE / "init")]
        return "\n".join(texts + [f"{path} {os.stat(path).st_mtime}" for path in programs()])

    def with_programs(self, build, archive):
        """Writes to `archive` the guest's file system with the programs of this build in it."""
        build = pathlib.Path(build)
        tree = Tree(self.folder / "programs")
        ours = {"LD_LIBRARY_PATH": str(build / "lib")}
        for program in ("flexins", "flexinsd", "verbs_pair"):
            tree.add_program(build / "bin" / program, f"/opt/flexins/bin/{program}", ours)
        for library in (build / "lib").glob("*.so*"):
            tree.add_program(library, f"/opt/flexins/lib/{library.name}", ours)
        extra = self.folder / "programs.cpio"
        tree.pack(extra)
        with open(archive, "wb") as whole:
            for part in (self.base, extra):
                with open(part, "rb") as file:
                    shutil.copyfileobj(file, whole)
