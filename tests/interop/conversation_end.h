#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "capture.h"
#include "cm/manager.h"
#include "replay_end.h"
#include "tests/engine/harness.h"

/// An engine with its communication manager in the place of one of the two programs of a captured
/// conversation. What the program did follows from the packets that its end sent: each message of
/// the manager was a call of it, each request of a queue pair a work request.

namespace flexins::interop {

class ConversationEnd final : public engine::ManagementSink {
 public:
  ConversationEnd(const Capture& capture, Role role);

  [[nodiscard]] bool is_ours(const Captured& packet) const {
    return packet.from_client == (role_ == Role::kClient);
  }
  [[nodiscard]] std::deque<engine::testing::FlatPacket>& sent() { return sent_.inbox; }
  /// Does what made the captured end send `packet`, if a program had to do anything for it.
  void cause(const Captured& packet);
  /// Hands the engine a packet of the other end, with our numbers for those that our end had drawn.
  void deliver(const Captured& packet);
  /// Gives a packet that the engine has sent the numbers that the captured end had drawn.
  void rename(const Captured& expected, std::vector<std::byte>& packet);
  /// A line for each thing that is not as it was with the captured programs.
  void check_outcome(std::vector<std::string>& deviations);

  bool on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
              std::span<const std::byte> mad) noexcept override;

 private:
  /// What the two programs had agreed on, as our end saw it.
  struct Agreed {
    base::QpType type = base::QpType::kReliable;
    uint32_t remote_qpn = 0;
    base::Psn send_psn;
    base::Psn receive_psn;
    uint8_t path_mtu = 3;
  };
  struct QueuePair {
    Agreed agreed;
    engine::testing::Endpoint endpoint;
    uint64_t next_receive = 0;  ///< wr_id that the next message takes
  };
  /// What must lie at `offset` of `memory_` in the end, and the completion that says so.
  struct Expected {
    size_t offset = 0;
    std::vector<std::byte> bytes;
  };

  // conversation_programs.cc: what the programs did
  [[nodiscard]] std::map<uint32_t, Agreed> agreements() const;
  void open_queue_pair(uint32_t captured_qpn, const Agreed& agreed);
  void make_datagram_qp_ready(base::Qpn qpn, const Agreed& agreed);
  void connect(base::Qpn qpn, const Agreed& agreed);
  void post_receives(QueuePair& qp);
  void call_manager(const wire::CmMessage& message);
  void post(const Captured& packet);
  void place_read_answer(const Captured& request);
  [[nodiscard]] cm::Path path_of(uint8_t traffic_class, uint32_t flow_label) const;
  [[nodiscard]] QueuePair& sender_of(const Captured& packet);
  [[nodiscard]] base::AhId address_handle();

  /// As the captured server did, or did not.
  void listen();
  void map_memory();
  void modify(base::Qpn qpn, const base::QpAttributes& attributes, uint32_t mask);
  /// `bytes` of `memory_` that nothing else uses, at the offset that is returned.
  size_t reserve(size_t bytes);
  void settle();
  [[nodiscard]] bool lies_at(size_t offset, const std::vector<std::byte>& bytes) const;
  [[nodiscard]] const Captured* answer_to(const Captured& request) const;
  [[nodiscard]] uint64_t iova(size_t offset) const { return base_address_ + offset; }

  const Capture& capture_;
  const Role role_;
  engine::testing::SeededRandom random_{11};
  std::unique_ptr<cm::Manager> manager_;
  engine::testing::QueuePort sent_;
  std::unique_ptr<engine::testing::Host> host_;
  std::unique_ptr<engine::testing::Application> application_;
  /// In front what the other end reads and writes, then what is sent from and received into.
  std::vector<std::byte> memory_;
  uint64_t base_address_ = 0;  ///< of `memory_`, as the other end knows it
  size_t used_ = 0;
  base::MemoryKey key_;
  std::map<uint32_t, QueuePair> qps_;              ///< by the captured number
  std::map<uint32_t, uint32_t> ids_;               ///< communication ids: captured to ours
  std::map<uint64_t, uint64_t> transactions_;      ///< likewise
  std::map<uint32_t, cm::ConnectionId> requests_;  ///< by the peer's id
  std::map<uint64_t, size_t> receive_offsets_;     ///< of the data, by wr_id
  std::optional<base::AhId> address_handle_;
  std::map<uint64_t, Expected> expected_;                  ///< by wr_id
  std::map<uint64_t, engine::testing::Done> completions_;  ///< by wr_id
  std::vector<std::string> complaints_;
  uint64_t last_wr_id_ = 0;
  base::TimeNs now_ = base::kSecond;
};

/// Whether `packet` is a management datagram; `message` is what it says.
[[nodiscard]] bool parse_management(const Captured& packet, wire::CmMessage& message);

}  // namespace flexins::interop
