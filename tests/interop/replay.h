#pragma once

#include <string>
#include <vector>

#include "replay_end.h"

/// One end of a capture played by an engine: it is handed the packets of the other end at the
/// places where they stand in the capture, and must send what the end that it plays had sent.

namespace flexins::interop {

class Replay {
 public:
  Replay(const Scenario& scenario, const Capture& capture, Role role)
      : scenario_(scenario), capture_(capture), end_(scenario, capture, role) {}

  /// Plays all packets; each deviation is a line.
  [[nodiscard]] std::vector<std::string> run();

 private:
  void arrive(const Arrival& arrival);
  [[nodiscard]] bool wait_for_packet();
  void compare(const Captured& expected);
  void set_free_bits(const Captured& expected, std::vector<std::byte>& bytes) const;
  void check_icrc(const Captured& expected, const std::vector<std::byte>& bytes);
  [[nodiscard]] bool is_spared(const Captured& expected) const;
  void check_recovery();
  void check_surplus();
  void complain(const Captured& expected, const std::string& what);

  [[nodiscard]] bool is_ours(const Captured& packet) const {
    return packet.from_client == (end_.role() == Role::kClient);
  }

  const Scenario& scenario_;
  const Capture& capture_;
  End end_;
  const Captured* last_compared_ = nullptr;
  base::Psn newest_psn_;  ///< of those compared
  std::vector<std::string> deviations_;
};

}  // namespace flexins::interop
