#pragma once

#include <span>
#include <vector>

#include <absl/container/flat_hash_map.h>

#include "base/verbs_types.h"
#include "engine/queue_pair.h"
#include "wire/address.h"

namespace flexins::engine {

/// Datagram QPs by the groups that they have joined. Control path; the data path only looks up.
class MulticastTable {
 public:
  [[nodiscard]] bool contains(const wire::IpAddress& group) const {
    return groups_.contains(group);
  }
  [[nodiscard]] bool is_member(const wire::IpAddress& group, const QueuePair* qp) const;
  /// Whether the QP is in any group.
  [[nodiscard]] bool has(const QueuePair* qp) const;
  [[nodiscard]] size_t size() const { return groups_.size(); }
  [[nodiscard]] std::span<QueuePair* const> members(const wire::IpAddress& group) const;

  /// Not a member yet.
  void add(const wire::IpAddress& group, QueuePair* qp);
  /// True when the group has no members left: it is forgotten then.
  bool remove(const wire::IpAddress& group, QueuePair* qp);
  /// Some group that the QP is in; the QP has() one.
  [[nodiscard]] wire::IpAddress any_of(const QueuePair* qp) const;

 private:
  absl::flat_hash_map<wire::IpAddress, std::vector<QueuePair*>> groups_;
};

}  // namespace flexins::engine
