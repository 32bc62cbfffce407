#pragma once

#include <cstdint>
#include <vector>

#include "common/peer.h"
#include "integrity/memory.h"
#include "integrity/plan.h"

namespace integrity {

/// What the client decides for both.
struct Orders {
  uint64_t seed = 1;
  uint64_t size_max = 1 << 20;
  uint64_t large_max = 8 << 20;
  uint32_t unreliable = 0;  ///< over UC
  uint32_t use_srq = 0;
};

struct Totals {
  uint64_t rounds = 0;
  uint64_t operations[kKinds] = {};
  uint64_t bytes[kKinds] = {};
};

/// One side of the test.
class Session {
 public:
  Session(const example::Settings& settings, const example::Socket& socket, const Orders& orders,
          bool is_client);

  /// Plays the next round; ends the program at the first wrong byte or completion. Both sides go on
  /// until one says that it does not want to: false.
  bool play_round(bool go_on);
  [[nodiscard]] const Totals& totals() const { return totals_; }

 private:
  void prepare_memory(const Plan& plan);
  void post_receives(const Plan& plan);
  void post_operations(const Plan& plan);
  void wait_for_completions(const Plan& plan);
  void check_receive(const Plan& plan, const ibv_wc& completion, size_t index) const;
  void expect_results(const Plan& plan);
  void check_memory(const Plan& plan) const;
  void barrier(const char* where) const;
  [[nodiscard]] std::vector<ibv_sge> gather_list(const std::vector<Piece>& pieces) const;

  const example::Socket& socket_;
  std::vector<Area> areas_;  // outlives the connection that has registered it
  example::Connection connection_;
  const int side_;
  Limits limits_;
  std::vector<ibv_mr*> regions_;
  std::vector<example::RemoteMemory> remote_;
  Totals totals_;
};

}  // namespace integrity
