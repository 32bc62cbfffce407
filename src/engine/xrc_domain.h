#pragma once

#include <memory>
#include <optional>

#include <absl/container/flat_hash_map.h>

#include "engine/engine.h"
#include "transport/interfaces.h"

namespace flexins::engine {

class SharedReceives;

/// An XRC domain (IBTA annex A14): the SRQs, of several programs perhaps, that its targets may
/// receive from. Lives as long as some context has it open.
class XrcDomain final : public transport::ReceiveQueues {
 public:
  explicit XrcDomain(std::optional<XrcdFile> file) : file_(file) {}

  /// An SRQ whose completion queue has overrun takes nothing.
  [[nodiscard]] bool find(uint32_t srqn, transport::ReceiveQueue& out) noexcept override;
  void add(uint32_t srqn, SharedReceives* srq) { srqs_.emplace(srqn, srq); }
  void remove(uint32_t srqn) { srqs_.erase(srqn); }
  [[nodiscard]] const std::optional<XrcdFile>& file() const { return file_; }

 private:
  std::optional<XrcdFile> file_;
  absl::flat_hash_map<uint32_t, SharedReceives*> srqs_;
};

/// A context's hold on a domain.
struct XrcdHandle {
  std::shared_ptr<XrcDomain> domain;
  uint32_t users = 0;  ///< SRQs and targets made, and targets opened, through it
};

}  // namespace flexins::engine
