#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "fake_engine.h"

/// What the fake engine does with work requests.

namespace flexins::provider {

FakeRing FakeRing::make(size_t bytes) {
  FakeRing ring;
  ring.fd.reset(::memfd_create("ring", MFD_CLOEXEC));
  FLEXINS_CHECK(::ftruncate(ring.fd.get(), static_cast<off_t>(bytes)) == 0);
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd.get(), 0);
  FLEXINS_CHECK(at != MAP_FAILED);
  ring.base = static_cast<std::byte*>(at);
  return ring;  // stays mapped: a test process is short-lived
}

namespace {

/// The entry's inline bytes or elements in one piece.
std::vector<std::byte> payload_area(const pipe::SubmissionEntry& entry, size_t bytes) {
  std::vector<std::byte> area(bytes);
  if (bytes == 0) return area;
  const size_t head = std::min<size_t>(bytes, 16);
  std::memcpy(area.data(), entry.slots[0].inline_head, head);
  std::memcpy(area.data() + head, static_cast<const void*>(&entry.slots[1]), bytes - head);
  return area;
}

std::vector<base::Sge> elements(const pipe::SubmissionEntry& entry) {
  std::vector<base::Sge> sge(entry.slots[0].sge_count);
  const auto area = payload_area(entry, sge.size() * sizeof(base::Sge));
  if (!area.empty()) std::memcpy(sge.data(), area.data(), area.size());
  return sge;
}

/// The application is this process: its addresses are ours.
std::vector<std::byte> gather(const pipe::SubmissionEntry& entry) {
  const auto& slot = entry.slots[0];
  if ((slot.flags & base::kSendInline) != 0) return payload_area(entry, slot.inline_length);
  std::vector<std::byte> data;
  for (const base::Sge& sge : elements(entry)) {
    const auto* from = reinterpret_cast<const std::byte*>(sge.address);
    data.insert(data.end(), from, from + sge.length);
  }
  return data;
}

}  // namespace

bool FakeEngine::step() {
  bool busy = false;
  for (pipe::SubmissionEntry entry; consumer_.take(entry);) {
    busy = true;
    if (entry.slots[0].kind == static_cast<uint8_t>(pipe::SubmissionKind::kReceiveKick)) {
      ++kicks;
      const auto at = qps_.find(entry.slots[0].qpn);
      if (at != qps_.end()) at->second.receives.set_need_kick(false);
    } else {
      std::memcpy(static_cast<void*>(&waiting_.emplace_back()), static_cast<void*>(&entry),
                  sizeof entry);
    }
  }
  consumer_.release();
  // In order, and no further than to a receiver that is not ready.
  for (size_t left = waiting_.size(); left > 0 && !waiting_.empty(); --left) {
    const size_t before = waiting_.size();
    execute(waiting_.front());
    if (waiting_.size() == before) break;
    busy = true;
  }
  return busy;
}

void FakeEngine::execute(const pipe::SubmissionEntry& entry) {
  const pipe::SubmissionSlot& slot = entry.slots[0];
  const auto at = qps_.find(slot.qpn);
  if (at == qps_.end()) return waiting_.pop_front();
  FakeQp& qp = at->second;
  const auto opcode = static_cast<base::WrOpcode>(slot.opcode);
  base::WcOpcode completed = base::WcOpcode::kSend;
  uint32_t bytes = 0;
  if (opcode == base::WrOpcode::kCompareSwap || opcode == base::WrOpcode::kFetchAdd) {
    pipe::AtomicOperands operands;
    std::memcpy(&operands, static_cast<const void*>(&entry.slots[1]), sizeof operands);
    auto& word = *reinterpret_cast<uint64_t*>(slot.remote_address);
    const bool swap = opcode == base::WrOpcode::kCompareSwap;
    std::memcpy(reinterpret_cast<void*>(slot.first_sge.address), &word, sizeof word);
    if (!swap) word += operands.compare_add;
    if (swap && word == operands.compare_add) word = operands.swap;
    completed = swap ? base::WcOpcode::kCompareSwap : base::WcOpcode::kFetchAdd;
    bytes = sizeof word;
  } else if (opcode == base::WrOpcode::kBindMw || opcode == base::WrOpcode::kLocalInvalidate) {
    const std::lock_guard lock(mutex_);
    local_.key = slot.immediate;
    local_.new_key = slot.remote_key;
    local_.address = slot.remote_address;
    completed = base::WcOpcode::kLocalInvalidate;
    if (opcode == base::WrOpcode::kBindMw) {
      std::memcpy(&local_.bind, static_cast<const void*>(&entry.slots[1]), sizeof local_.bind);
      completed = base::WcOpcode::kBindMw;
    }
  } else if (opcode == base::WrOpcode::kRdmaRead) {
    const auto* from = reinterpret_cast<const std::byte*>(slot.remote_address);
    for (const base::Sge& sge : elements(entry)) {
      std::memcpy(reinterpret_cast<void*>(sge.address), from + bytes, sge.length);
      bytes += sge.length;
    }
    completed = base::WcOpcode::kRdmaRead;
  } else {
    const auto data = gather(entry);
    bytes = static_cast<uint32_t>(data.size());
    const bool write = opcode == base::WrOpcode::kRdmaWrite ||
                       opcode == base::WrOpcode::kAtomicWrite ||
                       opcode == base::WrOpcode::kRdmaWriteWithImmediate;
    if (write) {
      if (!data.empty()) {
        std::memcpy(reinterpret_cast<void*>(slot.remote_address), data.data(), data.size());
      }
      completed = opcode == base::WrOpcode::kAtomicWrite ? base::WcOpcode::kAtomicWrite
                                                         : base::WcOpcode::kRdmaWrite;
    }
    if (opcode != base::WrOpcode::kRdmaWrite && opcode != base::WrOpcode::kAtomicWrite) {
      const auto to = qps_.find(qp.attributes.destination_qpn);
      if (to == qps_.end() || !receive(to->second, data, slot)) return;
    }
  }
  ++qp.sends_done;
  if ((slot.flags & base::kSendSignaled) != 0 || qp.request.signal_all != 0) {
    complete(qp, true, slot.wr_id, completed, bytes, 0, 0);
  }
  waiting_.pop_front();
}

bool FakeEngine::receive(FakeQp& to, const std::vector<std::byte>& data,
                         const pipe::SubmissionSlot& from) {
  std::vector<base::Sge> sge(base::Limits::kMaxSge);
  uint64_t wr_id = 0;
  uint32_t count = 0;
  const bool xrc = to.request.type == static_cast<uint8_t>(base::QpType::kXrcReceive);
  const uint32_t srqn = xrc ? from.remote_srqn : to.request.srq;
  FakeSrq* srq = srqn != 0 ? &srqs_.at(srqn) : nullptr;
  if (!(srq != nullptr ? srq->receives : to.receives).take(wr_id, sge, count)) return false;
  if (srq != nullptr) {
    srq->receives.release();
    if (srq->limit > srq->receives.available()) {
      srq->limit = 0;
      raise_async(srq->cookie, static_cast<uint32_t>(base::AsyncEvent::kSrqLimitReached));
    }
  }
  const auto opcode = static_cast<base::WrOpcode>(from.opcode);
  const bool write = opcode == base::WrOpcode::kRdmaWriteWithImmediate;
  size_t offset = 0;
  for (uint32_t i = 0; i < count && !write; ++i) {
    const size_t piece = std::min<size_t>(sge[i].length, data.size() - offset);
    if (piece > 0) {
      std::memcpy(reinterpret_cast<void*>(sge[i].address), data.data() + offset, piece);
    }
    offset += piece;
  }
  uint32_t flags = 0;
  if (write || opcode == base::WrOpcode::kSendWithImmediate) flags = base::kWcWithImmediate;
  if (opcode == base::WrOpcode::kSendWithInvalidate) flags = base::kWcWithInvalidate;
  if (xrc) {
    pipe::CompletionEntry entry{};
    entry.wr_id = wr_id;
    entry.qpn = 0xabcdef;  // as of a target that another process has
    entry.byte_length = static_cast<uint32_t>(data.size());
    entry.opcode = static_cast<uint8_t>(base::WcOpcode::kReceive);
    entry.generation = pipe::kNoGeneration;
    push(cqs_.at(srq->cq), entry);
    return true;
  }
  ++to.receives_done;
  complete(to, false, wr_id,
           write ? base::WcOpcode::kReceiveRdmaWithImmediate : base::WcOpcode::kReceive,
           static_cast<uint32_t>(data.size()), from.immediate, flags);
  return true;
}

void FakeEngine::complete(FakeQp& qp, bool is_send, uint64_t wr_id, base::WcOpcode opcode,
                          uint32_t bytes, uint32_t immediate, uint32_t flags) {
  pipe::CompletionEntry entry{};
  entry.wr_id = wr_id;
  for (const auto& [qpn, candidate] : qps_) {
    if (&candidate == &qp) entry.qpn = qpn;
  }
  entry.timestamp_ns = 1;
  entry.byte_length = bytes;
  entry.immediate = immediate;
  entry.wc_flags = flags;
  entry.retired = is_send ? qp.sends_done : qp.receives_done;
  entry.opcode = static_cast<uint8_t>(opcode);
  entry.is_send = is_send ? 1 : 0;
  entry.generation = qp.generation;
  push(cqs_.at(is_send ? qp.request.send_cq : qp.request.receive_cq), entry);
}

void FakeEngine::push(FakeCq& cq, const pipe::CompletionEntry& entry) {
  if (!cq.producer.has_room()) return cq.producer.mark_overflowed();
  cq.producer.push(entry);
  if (cq.producer.take_arm(false) && cq.request.channel != 0) {
    const uint64_t cookie = cq.request.cookie;
    const int channel = channels_.at(cq.request.channel).get();
    const std::lock_guard lock(mutex_);
    FLEXINS_CHECK(::write(channel, &cookie, sizeof cookie) == 8);
    ++delivered_[{channel, cookie}];
  }
}

}  // namespace flexins::provider
