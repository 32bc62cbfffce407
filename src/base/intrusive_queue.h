#pragma once

namespace flexins::base {

/// First in, first out, linked through members of the elements: no allocation. An element is in a
/// queue at most once; `Queued` says whether it is.
template <typename T, T* T::*Next, bool T::*Queued>
class IntrusiveQueue {
 public:
  [[nodiscard]] bool empty() const { return head_ == nullptr; }

  /// Nothing happens if `item` is queued already.
  void push(T* item) {
    if (item->*Queued) return;
    item->*Queued = true;
    item->*Next = nullptr;
    (tail_ != nullptr ? tail_->*Next : head_) = item;
    tail_ = item;
  }

  /// Only where not empty().
  T* pop() {
    T* item = head_;
    head_ = item->*Next;
    if (head_ == nullptr) tail_ = nullptr;
    item->*Queued = false;
    return item;
  }

  /// Takes `item` out if it is queued, here. Linear: for the control path.
  void remove(T* item) {
    if (!(item->*Queued)) return;
    T* before = nullptr;
    for (T* at = head_; at != item; at = at->*Next) before = at;
    (before != nullptr ? before->*Next : head_) = item->*Next;
    if (tail_ == item) tail_ = before;
    item->*Queued = false;
  }

 private:
  T* head_ = nullptr;
  T* tail_ = nullptr;
};

}  // namespace flexins::base
