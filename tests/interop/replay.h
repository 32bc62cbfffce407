#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture.h"
#include "engine/engine.h"
#include "tests/engine/harness.h"

/// One end of a capture played by an engine: it is handed the packets of the other end at the
/// places where they stand in the capture, and must send what the end that it plays had sent.
/// Only its own QP number and its own keys differ; those are replaced on the way in.

namespace flexins::interop {

enum class Role : uint8_t { kClient, kServer };

class Replay {
 public:
  Replay(const Scenario& scenario, const Capture& capture, Role role);

  /// Plays all packets; each deviation adds a line.
  [[nodiscard]] std::vector<std::string> run();

 private:
  void make_qp();
  void register_memory();
  void fill_memory();
  void post_receives();
  void post_operation(uint32_t index);
  bool post_next();
  void collect_completions();

  void arrive(const Arrival& arrival);
  [[nodiscard]] bool wait_for_packet();
  void compare(const Captured& expected);
  [[nodiscard]] bool is_spared(const Captured& expected) const;
  void check_recovery();
  void check_surplus();
  void check_end();
  void check_client_memory();
  void check_server_memory();
  void complain(const Captured& expected, const std::string& what);

  [[nodiscard]] bool is_ours(const Captured& packet) const {
    return packet.from_client == (role_ == Role::kClient);
  }
  [[nodiscard]] std::byte* slot(uint32_t index) { return &memory_[size_t{kSlotBytes} * index]; }

  const Scenario& scenario_;
  const Capture& capture_;
  const Role role_;
  std::vector<std::byte> memory_;
  engine::testing::QueuePort sent_;  ///< what the engine sends ends up in its inbox
  std::unique_ptr<engine::testing::Host> host_;
  std::unique_ptr<engine::testing::Application> application_;
  std::optional<engine::testing::Endpoint> endpoint_;
  base::MemoryKey key_;
  base::TimeNs now_ = 0;
  uint32_t posted_ = 0;
  bool receives_posted_ = false;
  const Captured* last_compared_ = nullptr;
  base::Psn newest_response_;
  std::vector<engine::testing::Done> send_completions_;
  std::vector<engine::testing::Done> receive_completions_;
  std::vector<std::string> deviations_;
};

}  // namespace flexins::interop
