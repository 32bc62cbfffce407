#pragma once

#include <memory>
#include <optional>

#include "pipe/entry_writer.h"
#include "provider/spin_lock.h"

namespace flexins::provider {

/// Gives the i-th slot of an entry that starts at `first`.
struct ContiguousSlots {
  pipe::SubmissionSlot* first;
  pipe::SubmissionSlot& operator()(uint32_t i) const { return first[i]; }
};

/// Where a program builds work requests between ibv_wr_start and ibv_wr_complete, out of the shared
/// ring: it may build on several QPs at a time, take long, and throw all away again.
class SendStage {
 public:
  SendStage(uint32_t entries_max, uint32_t slots_per_entry)
      : slots_per_entry_(slots_per_entry),
        capacity_(static_cast<size_t>(entries_max) * slots_per_entry),
        slots_(std::make_unique<pipe::SubmissionSlot[]>(capacity_)) {}

  /// Begins a batch; another thread's has to end first.
  void open() {
    lock_.lock();
    used_ = 0;
    entries_ = 0;
    error_ = 0;
    writer_.reset();
  }
  void close() { lock_.unlock(); }

  /// The next work request; its data follow.
  void begin(uint32_t qpn, const pipe::SendHead& head);
  template <typename Operands>
  void add_operands(const Operands& values) {
    if (writer_) writer_->operands(values);
    finish(false);
  }
  void set_datagram_address(pipe::DatagramAddress to, uint32_t qkey);
  void set_remote_srqn(uint32_t srqn) {
    if (writer_) slots_[current_].remote_srqn = srqn;
  }
  void add_sge(uint64_t address, uint32_t length, uint32_t key) {
    if (writer_) writer_->sge(address, length, key);
    finish(false);
  }
  void add_inline(const void* bytes, size_t length) {
    if (writer_) writer_->append(bytes, length);
    finish(true);
  }
  /// The batch is wrong: completing it returns `error`, the first that was noted.
  void fail(int error) {
    if (error_ == 0) error_ = error;
    writer_.reset();
  }

  /// The opcode of the work request under construction; only after a begin().
  [[nodiscard]] base::WrOpcode opcode() const {
    return static_cast<base::WrOpcode>(slots_[current_].opcode);
  }
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] uint32_t entries() const { return entries_; }
  /// Entry after entry: slot_count of its first slot says where the next one is.
  [[nodiscard]] const pipe::SubmissionSlot* slots() const { return slots_.get(); }

 private:
  void finish(bool is_inline);

  SpinLock lock_;
  uint32_t slots_per_entry_;
  size_t capacity_;
  std::unique_ptr<pipe::SubmissionSlot[]> slots_;
  size_t used_ = 0;
  size_t current_ = 0;
  uint32_t entries_ = 0;
  int error_ = 0;
  std::optional<pipe::EntryWriter<ContiguousSlots>> writer_;
};

}  // namespace flexins::provider
