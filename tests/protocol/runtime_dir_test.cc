#include "protocol/runtime_dir.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/unique_fd.h"
#include "protocol/client.h"

namespace flexins::protocol {
namespace {

class RuntimeDir : public testing::Test {
 protected:
  RuntimeDir() {
    char pattern[] = "/tmp/flexins-protocol-XXXXXX";
    root = ::mkdtemp(pattern);
    ::unsetenv("FLEXINS_ENGINE");
    ::unsetenv("XDG_RUNTIME_DIR");
    ::setenv("FLEXINS_RUNTIME_DIR", root.c_str(), 1);
  }
  ~RuntimeDir() override {
    const std::string command = "rm -rf '" + root + "'";
    EXPECT_EQ(std::system(command.c_str()), 0);
  }

  /// A listening session socket of engine `name` in `dir`.
  static base::UniqueFd engine_in(const std::string& dir, const std::string& name) {
    ::mkdir(dir.c_str(), 0700);
    ::mkdir(engine_dir(dir, name).c_str(), 0700);
    base::UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string path = session_socket_path(engine_dir(dir, name));
    std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(socket.get(), 1), 0);
    return socket;
  }

  std::string root;
};

TEST_F(RuntimeDir, IsLookedForInOrder) {
  ::setenv("XDG_RUNTIME_DIR", "/xdg", 1);
  const auto dirs = runtime_dir_candidates();
  ASSERT_EQ(dirs.size(), 4u);
  EXPECT_EQ(dirs[0], root);
  EXPECT_EQ(dirs[1], "/xdg/flexins");
  EXPECT_EQ(dirs[2], "/run/flexins");
  EXPECT_EQ(dirs[3], "/tmp/flexins-" + std::to_string(::geteuid()));
}

TEST_F(RuntimeDir, UnsetAndRelativeOnesAreLeftOut) {
  ::setenv("FLEXINS_RUNTIME_DIR", "not/absolute", 1);
  ::setenv("XDG_RUNTIME_DIR", "", 1);
  EXPECT_EQ(runtime_dir_candidates().size(), 2u);
}

TEST_F(RuntimeDir, IsBelievedOnlyIfNobodyElseCanWrite) {
  EXPECT_TRUE(check_runtime_dir(root).ok());
  ASSERT_EQ(::chmod(root.c_str(), 0777), 0);
  EXPECT_EQ(check_runtime_dir(root).error().code, EACCES);
  ASSERT_EQ(::chmod(root.c_str(), 0755), 0);
  EXPECT_TRUE(check_runtime_dir(root).ok());
  const std::string link = root + "/link";
  ASSERT_EQ(::symlink(root.c_str(), link.c_str()), 0);
  EXPECT_EQ(check_runtime_dir(link).error().code, ENOTDIR);
  EXPECT_EQ(check_runtime_dir(root + "/none").error().code, ENOENT);
}

TEST_F(RuntimeDir, IsMadeWhereEnginesAreStarted) {
  const std::string fresh = root + "/fresh";
  ::setenv("FLEXINS_RUNTIME_DIR", fresh.c_str(), 1);
  auto made = prepare_runtime_dir();
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(*made, fresh);
  struct stat info {};
  ASSERT_EQ(::stat(fresh.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  EXPECT_TRUE(prepare_runtime_dir().ok()) << "a second time";
}

TEST_F(RuntimeDir, NamesAreChecked) {
  for (const char* good : {"default", "a", "Host-1_b.c"}) EXPECT_TRUE(valid_engine_name(good));
  for (const char* bad :
       {"", ".", "..", ".hidden", "a/b", "a b", "\xff", "123456789012345678901234567890123"}) {
    EXPECT_FALSE(valid_engine_name(bad)) << bad;
  }
  EXPECT_EQ(engine_name(), "default");
  ::setenv("FLEXINS_ENGINE", "other", 1);
  EXPECT_EQ(engine_name(), "other");
}

TEST_F(RuntimeDir, EnginesAreFoundByTheirSocket) {
  auto missing = find_engine_dir("one");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ENOENT);
  EXPECT_NE(missing.error().message.find("flexins run"), std::string::npos);
  const auto socket = engine_in(root, "one");
  auto found = find_engine_dir("one");
  ASSERT_TRUE(found.ok());
  EXPECT_EQ(*found, root + "/one");
  EXPECT_EQ(find_engine_dir("../one").error().code, EINVAL);
}

TEST_F(RuntimeDir, AStaleSocketIsPassedOver) {
  const std::string first = root + "/first";
  const std::string xdg = root + "/xdg";
  ASSERT_EQ(::mkdir(xdg.c_str(), 0700), 0);
  ::setenv("FLEXINS_RUNTIME_DIR", first.c_str(), 1);
  ::setenv("XDG_RUNTIME_DIR", xdg.c_str(), 1);
  engine_in(first, "one").reset();  // its socket file stays
  auto refused = connect_session("one");
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("stale"), std::string::npos);
  const auto alive = engine_in(xdg + "/flexins", "one");
  EXPECT_TRUE(connect_session("one").ok());
}

}  // namespace
}  // namespace flexins::protocol
