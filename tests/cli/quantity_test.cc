#include "cli/quantity.h"

#include <gtest/gtest.h>

#include "cli/fault_settings.h"
#include "cli/status_table.h"

namespace flexins::cli {
namespace {

using Json = nlohmann::json;

TEST(Quantity, Shares) {
  EXPECT_DOUBLE_EQ(*parse_share("1%"), 0.01);
  EXPECT_DOUBLE_EQ(*parse_share("0.5 %"), 0.005);
  EXPECT_DOUBLE_EQ(*parse_share("0.25"), 0.25);
  for (const char* bad : {"", "%", "x", "-1%", "101%", "2", "1%%", "1us", "nan", "inf"}) {
    EXPECT_FALSE(parse_share(bad)) << bad;
  }
}

TEST(Quantity, Durations) {
  EXPECT_EQ(*parse_duration("5us", base::kSecond), 5000u);
  EXPECT_EQ(*parse_duration("1.5ms", base::kSecond), 1'500'000u);
  EXPECT_EQ(*parse_duration("10", base::kSecond), 10 * base::kSecond);
  EXPECT_EQ(*parse_duration("2m", 1), 120 * base::kSecond);
  for (const char* bad : {"", "s", "-1s", "5 parsecs", "1e300s", "nan"}) {
    EXPECT_FALSE(parse_duration(bad, 1)) << bad;
  }
}

TEST(Quantity, ForPeople) {
  EXPECT_EQ(format_bytes(17), "17 B");
  EXPECT_EQ(format_bytes(3 << 19), "1.5 MiB");
  EXPECT_EQ(format_seconds(90), "90 s");
  EXPECT_EQ(format_seconds(3600), "60 min");
}

TEST(FaultSettings, ParsesAndPrints) {
  auto set = parse_fault_settings({"loss=1%", "reorder=0.05", "delay=2ms", "seed=7"});
  ASSERT_TRUE(set) << set.error().message;
  EXPECT_EQ(*set, Json({{"loss", 0.01}, {"reorder", 0.05}, {"delay_us", 2000.0}, {"seed", 7}}));
  EXPECT_EQ(format_faults(*set),
            "loss       1 %\nreorder    5 %\ndelay      2000 us\nseed       7\n");
  EXPECT_EQ(format_faults(Json::object()), "no faults are injected\n");
  for (const char* bad : {"loss", "loss=", "lost=1%", "seed=-1", "seed=x", "delay=1%"}) {
    EXPECT_FALSE(parse_fault_settings({bad})) << bad;
  }
}

TEST(StatusTable, MissingFieldsAreNoTrouble) {
  EXPECT_NE(status_table(Json::object()).find("queue pairs: none"), std::string::npos);
  const Json status = {{"engine", {{"name", "e"}, {"pid", 5}}},
                       {"qps", {{{"qpn", 17}, {"state", "RTS"}, {"counters", Json::object()}}}},
                       {"regions", {{{"key", 255}, {"window", "adopted"}, {"length", 4096}}}},
                       {"counters", {{"bad_icrc", 3}, {"zero", 0}}}};
  const std::string text = status_table(status);
  for (const char* part :
       {"engine 'e': pid 5", "17", "RTS", "0xff", "adopted", "4.0 KiB", "bad_icrc"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  EXPECT_EQ(text.find("zero"), std::string::npos);
}

}  // namespace
}  // namespace flexins::cli
