#include "transport/remote_operations.h"

#include <new>

namespace flexins::transport {

bool RemoteOperations::allocate(uint32_t capacity) {
  clear();
  capacity_ = capacity;
  if (capacity <= allocated_) return true;
  ring_.reset(new (std::nothrow) RemoteOperation[capacity]);
  allocated_ = ring_ != nullptr ? capacity : 0;
  if (ring_ == nullptr) capacity_ = 0;
  return ring_ != nullptr;
}

RemoteOperation* RemoteOperations::add() noexcept {
  if (capacity_ == 0) return nullptr;
  if (size_ == capacity_) {
    if (at(0).due() && !at(0).is_repetition) return nullptr;
    set_due(at(0), 0, 0);
    begin_ = (begin_ + 1) % capacity_;
    --size_;
  }
  RemoteOperation& fresh = at(size_++);
  fresh = RemoteOperation{};
  return &fresh;
}

RemoteOperation* RemoteOperations::find(base::Psn psn) noexcept {
  for (uint32_t i = size_; i > 0; --i) {
    if (at(i - 1).covers(psn)) return &at(i - 1);
  }
  return nullptr;
}

RemoteOperation* RemoteOperations::first_due() noexcept {
  if (due_ == 0) return nullptr;
  for (uint32_t i = 0; i < size_; ++i) {
    if (at(i).due()) return &at(i);
  }
  return nullptr;
}

void RemoteOperations::set_due(RemoteOperation& operation, uint32_t next, uint32_t end) noexcept {
  if (operation.due()) --due_;
  operation.next = next;
  operation.end = end;
  if (operation.due()) ++due_;
}

void RemoteOperations::sent_one(RemoteOperation& operation) noexcept {
  if (++operation.next == operation.end) --due_;
}

void RemoteOperations::cancel_all() noexcept {
  for (uint32_t i = 0; i < size_; ++i) set_due(at(i), 0, 0);
}

}  // namespace flexins::transport
