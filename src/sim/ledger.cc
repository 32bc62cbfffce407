#include "sim/ledger.h"

#include <algorithm>

namespace flexins::sim {

std::string QpLedger::describe() const {
  std::string text = "  QP " + std::to_string(number) + " (number " + std::to_string(qpn) +
                     " on host " + std::to_string(host) + ", type " +
                     std::to_string(static_cast<int>(type)) + ", " + std::to_string(sends.size()) +
                     " sends and " + std::to_string(srq == nullptr ? receives.size() : 0) +
                     " receives outstanding)\n";
  const uint64_t first = history_count - std::min<uint64_t>(history_count, history.size());
  for (uint64_t i = first; i < history_count; ++i) {
    const Entry& entry = history[i % history.size()];
    text += "    " + std::to_string(entry.time) + " ns  " + entry.what + " " +
            std::to_string(entry.a) + " " + std::to_string(entry.b) + "\n";
  }
  return text;
}

}  // namespace flexins::sim
