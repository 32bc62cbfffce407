#include "cli/environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace flexins::preload_test {
namespace {

using cli::EngineView;
using cli::Environment;
using cli::with_engine;
using testing::EndsWith;

const EngineView kView{"/opt/flexins/lib", "/run/flexins", "left", "/run/flexins/left/sysfs"};

TEST(EnvironmentTest, ShowsTheEngine) {
  auto made = with_engine({{"HOME", "/root"}, {"SYSFS_PATH", "/elsewhere"}}, kView);
  ASSERT_TRUE(made.ok());
  Environment& environment = *made;
  EXPECT_EQ(environment["HOME"], "/root");
  EXPECT_THAT(environment["LD_PRELOAD"], EndsWith("/opt/flexins/lib/libflexins-preload.so"));
  EXPECT_EQ(environment["RDMAV_DRIVERS"], "/opt/flexins/lib/libflexins");
  EXPECT_EQ(environment["FLEXINS_RUNTIME_DIR"], "/run/flexins");
  EXPECT_EQ(environment["FLEXINS_ENGINE"], "left");
  EXPECT_EQ(environment["FLEXINS_SYSFS"], "/run/flexins/left/sysfs");
  EXPECT_EQ(environment.count("SYSFS_PATH"), 0U);
}

TEST(EnvironmentTest, KeepsOtherLibrariesAndDrivers) {
  auto made = with_engine({{"LD_PRELOAD", "/usr/lib/libjemalloc.so.2 libfoo.so"},
                           {"RDMAV_DRIVERS", "/usr/lib/libmine;/usr/lib/libother"}},
                          kView);
  ASSERT_TRUE(made.ok());
  EXPECT_THAT((*made)["LD_PRELOAD"], EndsWith("/opt/flexins/lib/libflexins-preload.so:"
                                              "/usr/lib/libjemalloc.so.2:libfoo.so"));
  EXPECT_EQ((*made)["RDMAV_DRIVERS"],
            "/opt/flexins/lib/libflexins:/usr/lib/libmine:/usr/lib/libother");
}

TEST(EnvironmentTest, ReplacesAnOuterRun) {
  auto outer = with_engine({{"LD_PRELOAD", "libfoo.so"}}, kView);
  ASSERT_TRUE(outer.ok());
  EngineView other = kView;
  other.library_dir = "/usr/lib/flexins";
  other.engine_name = "right";
  auto inner = with_engine(*outer, other);
  ASSERT_TRUE(inner.ok());
  EXPECT_THAT((*inner)["LD_PRELOAD"], EndsWith("/usr/lib/flexins/libflexins-preload.so:libfoo.so"));
  EXPECT_EQ((*inner)["RDMAV_DRIVERS"], "/usr/lib/flexins/libflexins");
  EXPECT_EQ((*inner)["FLEXINS_ENGINE"], "right");
}

TEST(EnvironmentTest, RefusesAFolderThatCannotBePreloadedFrom) {
  EngineView view = kView;
  view.library_dir = "/home/a user/lib";
  auto made = with_engine({}, view);
  ASSERT_FALSE(made.ok());
  EXPECT_EQ(made.error().code, EINVAL);
}

}  // namespace
}  // namespace flexins::preload_test
