#include <algorithm>
#include <cstring>

#include "replay_end.h"

/// What must be true when a capture has been played.

namespace flexins::interop {
namespace {

using base::WcStatus;

bool holds(const std::byte* at, uint32_t operation, uint32_t length) {
  for (uint32_t i = 0; i < length; ++i) {
    if (at[i] != std::byte{byte_of(operation, i)}) return false;
  }
  return true;
}

std::string about(uint32_t operation, const std::string& what) {
  return "operation " + std::to_string(operation) + " " + what;
}

}  // namespace

void End::check_outcome(std::vector<std::string>& deviations) {
  if (role_ == Role::kClient) {
    check_client(deviations);
  } else {
    check_server(deviations);
  }
}

void End::check_client(std::vector<std::string>& deviations) {
  if (send_completions_.size() != scenario_.operations.size()) {
    deviations.push_back(std::to_string(send_completions_.size()) + " operations completed");
    return;
  }
  for (uint32_t k = 0; k < scenario_.operations.size(); ++k) {
    const Operation& operation = scenario_.operations[k];
    const auto& done = send_completions_[k];
    if (done.wr_id != k || done.status != static_cast<int>(operation.status)) {
      deviations.push_back(about(k, "completed with status " + std::to_string(done.status)));
    }
    if (operation.status != WcStatus::kSuccess) continue;
    uint64_t value = 0;
    std::memcpy(&value, slot(k), sizeof value);
    const bool is_right = operation.kind == Kind::kRead
                              ? holds(slot(k), k, operation.length(scenario_.mtu_bytes))
                              : !is_atomic(operation.kind) || value == kAtomicValue + k;
    if (!is_right) deviations.push_back(about(k, "fetched something else"));
  }
}

void End::check_server(std::vector<std::string>& deviations) {
  // Messages take receives in the order in which they arrive.
  std::vector<uint32_t> receives;
  for (uint32_t k = 0; k < scenario_.operations.size(); ++k) {
    if (takes_receive(scenario_.operations[k].kind)) receives.push_back(kSlots + k);
  }
  size_t arrived = 0;
  for (uint32_t k = 0; k < scenario_.operations.size(); ++k) {
    const Operation& operation = scenario_.operations[k];
    if (operation.status != WcStatus::kSuccess || k == scenario_.lost_operation) continue;
    const bool takes = takes_receive(operation.kind);
    const std::byte* at = nullptr;
    if (operation.kind == Kind::kWrite || operation.kind == Kind::kWriteImmediate ||
        operation.kind == Kind::kWriteWindow) {
      at = slot(k);
    } else if (takes) {
      at = slot(receives[arrived]);
      if (scenario_.type == base::QpType::kDatagram) at += kGrhBytes;
    }
    arrived += takes ? 1 : 0;
    const uint32_t length = operation.length(scenario_.mtu_bytes);
    // The receive of a lost message serves the next one, and may hold a part of it behind that.
    const bool is_clean =
        k == scenario_.lost_operation + 1 || at == nullptr || at[length] == std::byte{0xee};
    if (at != nullptr && (!holds(at, k, length) || !is_clean)) {
      deviations.push_back(about(k, "left something else in memory"));
    }
    if (!is_atomic(operation.kind)) continue;
    uint64_t expected = kAtomicValue + k + kAddend;
    if (operation.kind == Kind::kCompareSwap) {
      expected = k % 2 == 1 ? kSwapValue : kAtomicValue + k;
    }
    uint64_t value = 0;
    std::memcpy(&value, slot(k), sizeof value);
    if (value != expected) deviations.push_back(about(k, "left something else in memory"));
  }
  const auto good = std::count_if(receive_completions_.begin(), receive_completions_.end(),
                                  [](const auto& done) { return done.status == 0; });
  if (static_cast<size_t>(good) != arrived) {
    deviations.push_back(std::to_string(good) + " receives completed");
  }
}

}  // namespace flexins::interop
