#include "daemon/admin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "daemon/fault_json.h"
#include "daemon/status_json.h"

namespace flexins::daemon {
namespace {

using Json = nlohmann::json;
using testing::_;
using testing::HasSubstr;
using testing::Return;

class MockBackend : public AdminBackend {
 public:
  MOCK_METHOD(Json, status, (std::optional<uid_t>), (override));
  MOCK_METHOD(base::Result<Json>, faults, (const Json&), (override));
  MOCK_METHOD(base::Result<Json>, start_capture, (const std::string&), (override));
  MOCK_METHOD(base::Result<Json>, stop_capture, (), (override));
  MOCK_METHOD(void, stop, (), (override));
};

constexpr uid_t kOwner = 1000;
constexpr PeerCredentials kTrusted{kOwner, 1};
constexpr PeerCredentials kStranger{1001, 1};

class AdminTest : public testing::Test {
 protected:
  testing::StrictMock<MockBackend> backend_;
  Admin admin_{backend_, kOwner};
};

TEST_F(AdminTest, GarbageIsAnswered) {
  for (const char* line : {"", "{", "[]", "7", "{\"command\":7}", "{\"command\":\"dance\"}",
                           "{\"command\":\"capture\"}", "\xff\xfe",
                           "{\"command\":\"capture\",\"start\":\"relative\"}"}) {
    const Json answer = admin_.answer(line, kTrusted);
    EXPECT_EQ(answer.at("errno"), EINVAL) << line;
    EXPECT_TRUE(answer.at("error").is_string()) << line;
  }
  EXPECT_TRUE(admin_.answer(R"({"command":"ping"})", kStranger).contains("pid"));
}

TEST_F(AdminTest, StrangersSeeTheirOwnAndChangeNothing) {
  EXPECT_CALL(backend_, status(std::optional<uid_t>(1001))).WillOnce(Return(Json::object()));
  std::ignore = admin_.answer(R"({"command":"status"})", kStranger);
  for (const char* line : {R"({"command":"stop"})", R"({"command":"faults"})",
                           R"({"command":"capture","stop":true})"}) {
    EXPECT_EQ(admin_.answer(line, kStranger).at("errno"), EPERM);
  }
}

TEST_F(AdminTest, RootAndOwnerRule) {
  EXPECT_CALL(backend_, status(std::optional<uid_t>())).WillOnce(Return(Json::object()));
  std::ignore = admin_.answer(R"({"command":"status"})", PeerCredentials{0, 1});
  EXPECT_CALL(backend_, faults(Json({{"loss", 0.5}}))).WillOnce(Return(Json::object()));
  std::ignore = admin_.answer(R"({"command":"faults","set":{"loss":0.5}})", kTrusted);
  EXPECT_CALL(backend_, start_capture("/f")).WillOnce(Return(base::Error{EBUSY, "one runs"}));
  EXPECT_EQ(admin_.answer(R"({"command":"capture","start":"/f"})", kTrusted),
            Json({{"error", "one runs"}, {"errno", EBUSY}}));
  EXPECT_CALL(backend_, stop());
  std::ignore = admin_.answer(R"({"command":"stop"})", kTrusted);
}

TEST(FaultJson, SettingsAddUpAndGoBack) {
  auto config = apply_faults({}, {{"loss", 0.01}, {"delay_us", 5}, {"seed", 9}});
  ASSERT_TRUE(config);
  EXPECT_EQ(config->delay_max_ns, 5000u);
  config = apply_faults(*config, {{"reorder", 0.05}});
  ASSERT_TRUE(config);
  EXPECT_EQ(faults_to_json(*config), Json({{"loss", 0.01},
                                           {"duplicate", 0.0},
                                           {"reorder", 0.05},
                                           {"corrupt", 0.0},
                                           {"delay_us", 5.0},
                                           {"seed", 9}}));
  config = apply_faults(*config, false);
  EXPECT_EQ(config->loss, 0);
}

TEST(FaultJson, NonsenseIsNamed) {
  for (const Json& set : {Json({{"loss", 2}}), Json({{"loss", "x"}}), Json({{"los", 0.1}}),
                          Json({{"delay_us", -1}}), Json({{"seed", -1}}), Json(7), Json(true)}) {
    EXPECT_FALSE(apply_faults({}, set)) << set;
  }
  EXPECT_THAT(apply_faults({}, {{"los", 0.1}}).error().message, HasSubstr("\"los\""));
}

TEST(StatusJson, ShowsAViewerOnlyHisOwn) {
  StatusInput input;
  input.engine = Json::object();
  input.tenants = {{1000, {}}, {1001, {}}};
  input.sessions = {{base::ContextId{1}, {1000, 11}, "a", 0},
                    {base::ContextId{2}, {1001, 12}, "b", 0}};
  for (uint32_t context : {1u, 2u}) {
    engine::QpInfo qp;
    qp.qpn = base::Qpn{100 + context};
    qp.context = base::ContextId{context};
    qp.attributes.path_mtu = 5;
    qp.attributes.address.destination_gid = {0, 0, 0,    0,    0,   0, 0, 0,
                                             0, 0, 0xff, 0xff, 192, 0, 2, 1};
    input.info.qps.push_back(qp);
  }
  const Json all = status_json(input, std::nullopt);
  EXPECT_EQ(all["qps"].size(), 2u);
  EXPECT_EQ(all["qps"][0]["peer"], "192.0.2.1");
  EXPECT_EQ(all["qps"][0]["path_mtu_bytes"], 4096);
  EXPECT_EQ(all["tenants"].size(), 2u);
  const Json own = status_json(input, 1001);
  EXPECT_EQ(own["qps"].size(), 1u);
  EXPECT_EQ(own["qps"][0]["qpn"], 102);
  EXPECT_EQ(own["contexts"][0]["program"], "b");
  EXPECT_FALSE(own["engine"].contains("ports"));
}

}  // namespace
}  // namespace flexins::daemon
