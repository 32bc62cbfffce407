#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture.h"
#include "engine/engine.h"
#include "tests/engine/harness.h"

/// An engine in the place of one of the two programs of a capture: same memory, same queue pair,
/// same requests.

namespace flexins::interop {

enum class Role : uint8_t { kClient, kServer };

class End {
 public:
  End(const Scenario& scenario, const Capture& capture, Role role);

  [[nodiscard]] Role role() const { return role_; }
  [[nodiscard]] base::Qpn qpn() const { return endpoint_->qpn; }
  /// What the engine has sent and nobody has taken yet.
  [[nodiscard]] std::deque<engine::testing::FlatPacket>& sent() { return sent_.inbox; }

  void post_receives();
  /// Client: posts the next operation if its turn has come; false where it has not.
  bool post_next();
  /// Hands the engine a packet of the other end, its QP number and keys replaced by ours.
  void deliver(engine::testing::FlatPacket packet);
  /// Lets the engine do what it can without waiting.
  void settle();
  /// Lets time pass until the engine's next timer. False when there is none.
  bool wait();
  /// A line for each thing that is not in memory, or was not completed, as it should.
  void check_outcome(std::vector<std::string>& deviations);

 private:
  void register_memory();
  void fill_memory();
  void make_qp();
  void connect();
  void bind_window();
  void make_datagram_qp_ready();
  void modify(const base::QpAttributes& attributes, uint32_t mask);
  void post_operation(uint32_t index);
  void check_client(std::vector<std::string>& deviations);
  void check_server(std::vector<std::string>& deviations);
  [[nodiscard]] std::byte* slot(uint32_t index) { return &memory_[size_t{kSlotBytes} * index]; }

  const Scenario& scenario_;
  const Capture& capture_;
  const Role role_;
  std::vector<std::byte> memory_;
  engine::testing::QueuePort sent_;
  std::unique_ptr<engine::testing::Host> host_;
  std::unique_ptr<engine::testing::Application> application_;
  std::optional<engine::testing::Endpoint> endpoint_;
  base::MemoryKey key_;
  base::MemoryKey granted_key_;  ///< what the other end uses: `key_`, or that of a window
  base::AhId address_handle_;    ///< datagrams
  base::TimeNs now_ = 0;
  uint32_t posted_ = 0;
  std::vector<engine::testing::Done> send_completions_;
  std::vector<engine::testing::Done> receive_completions_;
};

}  // namespace flexins::interop
