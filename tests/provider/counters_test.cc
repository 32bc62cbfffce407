#include "provider/counters.h"

#include <cerrno>
#include <cstring>

#include "device_fixture.h"

namespace flexins::provider {
namespace {

class FlowCounting : public OpenDevice {
 protected:
  void SetUp() override {
    OpenDevice::SetUp();
    ibv_counters_init_attr wanted{};
    counters = ibv_create_counters(context, &wanted);
    ASSERT_NE(counters, nullptr);
  }
  void TearDown() override {
    EXPECT_EQ(ibv_destroy_counters(counters), 0);
    OpenDevice::TearDown();
  }
  int attach(ibv_counter_description what, uint32_t index, ibv_flow* flow = nullptr) {
    ibv_counter_attach_attr point{what, index, 0};
    return ibv_attach_counters_point_flow(counters, &point, flow);
  }
  ibv_flow* count_all() {
    struct __attribute__((packed)) {
      ibv_flow_attr attributes;
      ibv_flow_spec_counter_action action;
    } wanted{};
    wanted.attributes.type = IBV_FLOW_ATTR_ALL_DEFAULT;
    wanted.attributes.port = 1;
    wanted.attributes.num_of_specs = 1;
    wanted.action = {IBV_FLOW_SPEC_ACTION_COUNT, sizeof wanted.action, counters};
    alignas(8) std::byte bytes[sizeof wanted];
    std::memcpy(bytes, &wanted, sizeof wanted);
    return ibv_create_flow(create_rc(), reinterpret_cast<ibv_flow_attr*>(bytes));
  }

  ibv_counters* counters = nullptr;
};

TEST_F(FlowCounting, ValuesStandWhereTheProgramWantsThem) {
  uint64_t values[4] = {9, 9, 9, 9};
  EXPECT_EQ(ibv_read_counters(counters, values, 4, 0), EINVAL) << "nothing is attached";
  ASSERT_EQ(attach(IBV_COUNTER_BYTES, 0), 0);
  ASSERT_EQ(attach(IBV_COUNTER_PACKETS, 2), 0);
  EXPECT_EQ(ibv_read_counters(counters, values, 2, 0), EINVAL) << "too short";
  EXPECT_EQ(ibv_read_counters(counters, values, 4, 2), EOPNOTSUPP);
  ASSERT_EQ(ibv_read_counters(counters, values, 3, IBV_READ_COUNTERS_ATTR_PREFER_CACHED), 0);
  EXPECT_EQ(values[0], 200u);
  EXPECT_EQ(values[1], 0u);
  EXPECT_EQ(values[2], 3u);
  EXPECT_EQ(values[3], 9u);
}

TEST_F(FlowCounting, PointsAreAttachedBeforeTheFlow) {
  ASSERT_EQ(attach(IBV_COUNTER_PACKETS, 0), 0);
  ibv_flow* flow = count_all();
  ASSERT_NE(flow, nullptr);
  EXPECT_EQ(engine->flow_counters, Counters::of(counters).id);
  EXPECT_EQ(attach(IBV_COUNTER_BYTES, 1), EBUSY);
  EXPECT_EQ(attach(IBV_COUNTER_BYTES, 1, flow), EOPNOTSUPP);
  EXPECT_EQ(ibv_destroy_counters(counters), EBUSY);
  EXPECT_EQ(ibv_destroy_flow(flow), 0);
  EXPECT_EQ(attach(IBV_COUNTER_BYTES, 1), 0);
  EXPECT_EQ(attach(static_cast<ibv_counter_description>(2), 1), EOPNOTSUPP);
}

}  // namespace
}  // namespace flexins::provider
