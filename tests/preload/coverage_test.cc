// Every function that takes a path and that RDMA programs import must be wrapped: one forgotten
// relative of open() and a program sees half a device.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>
#include <set>

#include "support.h"

namespace flexins::preload_test {
namespace {

namespace fs = std::filesystem;

/// Functions through which a program can look at what a path leads to, less the ornaments of their
/// relatives.
const std::set<std::string> kPathTaking{"open",
                                        "openat",
                                        "fopen",
                                        "freopen",
                                        "opendir",
                                        "scandir",
                                        "scandirat",
                                        "glob",
                                        "realpath",
                                        "readlink",
                                        "readlinkat",
                                        "canonicalize_file_name",
                                        "stat",
                                        "lstat",
                                        "fstatat",
                                        "xstat",
                                        "lxstat",
                                        "fxstatat",
                                        "statx",
                                        "statfs",
                                        "statvfs",
                                        "access",
                                        "eaccess",
                                        "euidaccess",
                                        "faccessat",
                                        "getxattr",
                                        "lgetxattr",
                                        "listxattr",
                                        "llistxattr",
                                        "chdir",
                                        "getcwd",
                                        "ftw",
                                        "get_current_dir_name",
                                        "nftw",
                                        "fts_open",
                                        "inotify_add_watch",
                                        "openat2",
                                        "name_to_handle_at"};

void strip_suffix(std::string& name, const std::string& suffix) {
  if (name.size() > suffix.size() && name.ends_with(suffix)) {
    name.resize(name.size() - suffix.size());
  }
}

/// Whether `name` is a function above or a relative: `__open64_2`, `__realpath_chk`.
bool takes_path(std::string name) {
  if (name.starts_with("__")) name.erase(0, 2);
  for (const char* suffix : {"_chk", "_2", "64"}) strip_suffix(name, suffix);
  return kPathTaking.count(name) == 1;
}

std::set<std::string> imports(const fs::path& file) {
  std::set<std::string> names;
  const Outcome outcome = run({"nm", "-D", "--undefined-only", file});
  EXPECT_EQ(outcome.status, 0) << outcome.output;
  for (const std::string& line : lines(outcome.output)) {
    const size_t start = line.find_last_of(' ') + 1;
    names.insert(line.substr(start, line.find('@', start) - start));
  }
  return names;
}

std::set<std::string> wrapped() {
  return {
#define FLEXINS_FUNCTION(name) #name,
#include "preload/functions.inc"
#undef FLEXINS_FUNCTION
  };
}

/// The usual RDMA programs and libraries that are installed; says which are not.
std::vector<fs::path> subjects() {
  const fs::path libraries = fs::path("/usr/lib") / "x86_64-linux-gnu";
  std::vector<fs::path> found;
  const auto take = [&found](const fs::path& file) {
    if (fs::exists(file)) {
      found.push_back(file);
    } else {
      std::cout << "not installed: " << file.string() << '\n';
    }
  };
  for (const char* name : {"libibverbs.so.1",
                           "librdmacm.so.1",
                           "libibumad.so.3",
                           "libmlx5.so.1",
                           "libefa.so.1",
                           "libnl-3.so.200",
                           "libnl-route-3.so.200",
                           "libucs.so.0",
                           "libuct.so.0",
                           "libucm.so.0",
                           "libucp.so.0",
                           "ucx/libuct_ib.so.0",
                           "ucx/libuct_rdmacm.so.0",
                           "libfabric.so.1",
                           "libhwloc.so.15",
                           "libopen-pal.so.40",
                           "libopen-rte.so.40",
                           "libmpi.so.40",
                           "openmpi/lib/openmpi3/mca_btl_openib.so",
                           "openmpi/lib/openmpi3/mca_pml_ucx.so",
                           "openmpi/lib/openmpi3/mca_osc_ucx.so",
                           "openmpi/lib/openmpi3/mca_mtl_ofi.so",
                           "rsocket/librspreload.so.1",
                           "librados.so.2",
                           "ceph/libceph-common.so.2",
                           "libpsm_infinipath.so.1",
                           "libpsm2.so.2",
                           "libpmix.so.2",
                           "libevent_core-2.1.so.7",
                           "libnuma.so.1",
                           "libstdc++.so.6"}) {
    take(libraries / name);
  }
  for (const char* name : {"ibv_asyncwatch",
                           "ibv_devices",
                           "ibv_devinfo",
                           "ibv_rc_pingpong",
                           "ibv_srq_pingpong",
                           "ibv_uc_pingpong",
                           "ibv_ud_pingpong",
                           "ibv_xsrq_pingpong",
                           "ib_atomic_bw",
                           "ib_atomic_lat",
                           "ib_read_bw",
                           "ib_read_lat",
                           "ib_send_bw",
                           "ib_send_lat",
                           "ib_write_bw",
                           "ib_write_lat",
                           "raw_ethernet_bw",
                           "raw_ethernet_lat",
                           "raw_ethernet_burst_lat",
                           "raw_ethernet_fs_rate",
                           "rping",
                           "ucmatose",
                           "udaddy",
                           "udpong",
                           "mckey",
                           "rdma_client",
                           "rdma_server",
                           "rdma_xclient",
                           "rdma_xserver",
                           "rstream",
                           "riostream",
                           "rcopy",
                           "cmtime",
                           "ucx_info",
                           "ucx_perftest",
                           "fi_info",
                           "fi_pingpong",
                           "mpirun",
                           "ompi_info",
                           "fio",
                           "qemu-system-x86_64",
                           "python3",
                           "lstopo",
                           "ls",
                           "stat",
                           "cat",
                           "find",
                           "bash"}) {
    take(fs::path("/usr/bin") / name);
  }
  std::error_code absent;
  for (const auto& entry :
       fs::directory_iterator("/usr/lib/python3/dist-packages/pyverbs", absent)) {
    if (entry.path().extension() == ".so") found.push_back(entry.path());
  }
  return found;
}

TEST(CoverageTest, AllThatProgramsImportIsWrapped) {
  const std::set<std::string> ours = wrapped();
  const std::vector<fs::path> programs = subjects();
  ASSERT_GE(programs.size(), 5U);
  size_t matches = 0;
  for (const fs::path& program : programs) {
    for (const std::string& name : imports(program)) {
      if (!takes_path(name)) continue;
      ++matches;
      EXPECT_TRUE(ours.count(name) == 1) << program << " imports " << name;
    }
  }
  EXPECT_GT(matches, 20U);
}

TEST(CoverageTest, TheLibraryExportsWhatItSaysAndNoMore) {
  std::set<std::string> exported;
  const Outcome outcome = run({"nm", "-D", "--defined-only", FLEXINS_PRELOAD_LIBRARY});
  for (const std::string& line : lines(outcome.output)) {
    exported.insert(line.substr(line.find_last_of(' ') + 1));
  }
  std::set<std::string> expected = wrapped();
  expected.insert("flexins_preload_register");
  EXPECT_EQ(exported, expected);
}

TEST(CoverageTest, TheLibraryNeedsTheCLibraryOnly) {
  const Outcome outcome = run({"readelf", "-d", FLEXINS_PRELOAD_LIBRARY});
  for (const std::string& line : lines(outcome.output)) {
    if (line.find("(NEEDED)") == std::string::npos) continue;
    EXPECT_THAT(line, testing::HasSubstr("[libc.so.6]"));
  }
}

}  // namespace
}  // namespace flexins::preload_test
