#include "fake_engine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>

#include "base/check.h"

namespace flexins::provider {
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

FakeRing FakeRing::make(size_t bytes) {
  FakeRing ring;
  ring.fd.reset(::memfd_create("ring", MFD_CLOEXEC));
  FLEXINS_CHECK(::ftruncate(ring.fd.get(), static_cast<off_t>(bytes)) == 0);
  void* at = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd.get(), 0);
  FLEXINS_CHECK(at != MAP_FAILED);
  ring.base = static_cast<std::byte*>(at);
  return ring;  // stays mapped: a test process is short-lived
}

FakeEngine::FakeEngine(const std::string& runtime_dir) {
  const std::string dir = runtime_dir + "/default";
  ::mkdir(dir.c_str(), 0700);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = dir + "/session.sock";
  FLEXINS_CHECK(path.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size());
  ::unlink(path.c_str());
  listener_.reset(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  FLEXINS_CHECK(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) ==
                0);
  FLEXINS_CHECK(::listen(listener_.get(), 4) == 0);
  thread_ = std::thread([this] { run(); });
}

FakeEngine::~FakeEngine() { kill(); }

void FakeEngine::kill() {
  stop_ = true;
  const uint64_t one = 1;
  if (wake_fd_.valid()) FLEXINS_CHECK(::write(wake_fd_.get(), &one, sizeof one) == sizeof one);
  if (thread_.joinable()) thread_.join();
  listener_.reset();
  socket_.reset();
  async_write_.reset();
  channels_.clear();
}

void FakeEngine::kill_slowly() {
  async_write_.reset();
  channels_.clear();
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  kill();
}

void FakeEngine::run() {
  while (!stop_) {
    pollfd waiting{socket_.valid() ? socket_.get() : listener_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, socket_.valid() ? 0 : 1) > 0) {
      if (!socket_.valid()) {
        socket_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      } else if (!serve_one()) {
        socket_.reset();
        return;
      }
    }
    if (submission_.base == nullptr || paused_ || !step()) idle();
  }
}

void FakeEngine::idle() {
  if (!sleepy_ || submission_.base == nullptr) {
    std::this_thread::yield();
    return;
  }
  auto& page = *reinterpret_cast<pipe::WakePage*>(wake_page_.base);
  page.need_wakeup.store(1, std::memory_order_seq_cst);
  if (paused_ || consumer_.empty()) {
    pollfd both[2] = {{socket_.get(), POLLIN, 0}, {wake_fd_.get(), POLLIN, 0}};
    ::poll(both, 2, -1);
    uint64_t count = 0;
    if ((both[1].revents & POLLIN) != 0 &&
        ::read(wake_fd_.get(), &count, sizeof count) == sizeof count && !stop_) {
      ++wakes;
    }
  }
  page.need_wakeup.store(0, std::memory_order_seq_cst);
}

bool FakeEngine::serve_one() {
  alignas(8) std::byte buffer[protocol::kMaxMessageBytes];
  protocol::ReceivedFds fds;
  const auto got = protocol::receive_message(socket_.get(), buffer, fds);
  return got.error == 0 && answer(buffer, got.bytes);
}

void FakeEngine::send_reply(protocol::MessageHeader& reply, size_t bytes,
                            const std::vector<int>& fds) {
  reply = current_;
  reply.status = static_cast<uint16_t>(refuse_with.load());
  reply.length = static_cast<uint32_t>(bytes);
  const auto* from = reinterpret_cast<const std::byte*>(&reply);
  (void)protocol::send_message(socket_.get(), {from, bytes}, fds);
}

template <typename Reply>
void FakeEngine::done(Reply& reply, const std::vector<int>& fds) {
  send_reply(reply.header, sizeof reply, fds);
}

void FakeEngine::hello() {
  wake_page_ = FakeRing::make(4096);
  submission_ = FakeRing::make(pipe::submission_ring_bytes());
  consumer_ = pipe::SubmissionConsumer(submission_.base);
  wake_fd_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  int ends[2];
  FLEXINS_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
  const base::UniqueFd async_read(ends[0]);
  async_write_.reset(ends[1]);
  protocol::HelloReply reply{};
  reply.protocol_version = protocol::kProtocolVersion;
  reply.pipe_version = pipe::kPipeVersion;
  reply.node_guid = 0x0202'03ff'fe04'0506;
  done(reply, {wake_page_.fd.get(), wake_fd_.get(), async_read.get(), submission_.fd.get()});
}

void FakeEngine::create_cq(const protocol::CreateCqRequest& request) {
  const uint32_t depth = pipe::round_up_power_of_two(request.depth);
  const uint32_t id = next_id_++;
  FakeCq& cq = cqs_[id];
  cq.request = request;
  cq.ring = FakeRing::make(pipe::completion_ring_bytes(depth));
  cq.producer = pipe::CompletionProducer(cq.ring.base, depth);
  ++objects;
  protocol::CreateCqReply reply{};
  reply.cq = id;
  reply.depth = depth;
  done(reply, {cq.ring.fd.get()});
}

void FakeEngine::resize_cq(const protocol::ResizeCqRequest& request) {
  FakeCq& cq = cqs_[request.cq];
  const uint32_t depth = pipe::round_up_power_of_two(request.depth);
  FakeRing ring = FakeRing::make(pipe::completion_ring_bytes(depth));
  FLEXINS_CHECK(cq.producer.move_to(ring.base, depth));
  cq.ring = std::move(ring);
  protocol::ResizeCqReply reply{};
  reply.depth = depth;
  done(reply, {cq.ring.fd.get()});
}

void FakeEngine::create_qp(const protocol::CreateQpRequest& request) {
  const uint32_t depth = pipe::round_up_power_of_two(request.max_receive_wr);
  const uint32_t qpn = 0x1000 + next_id_++;
  FakeQp& qp = qps_[qpn];
  qp.request = request;
  if (request.srq != 0) {
    ++objects;
    protocol::CreateQpReply reply{};
    reply.qpn = qpn;
    reply.generation = qp.generation;
    return done(reply);
  }
  qp.ring = FakeRing::make(pipe::receive_ring_bytes(depth, request.max_receive_sge));
  qp.receives = pipe::ReceiveConsumer(qp.ring.base, depth, request.max_receive_sge);
  qp.receives.set_need_kick(true);
  ++objects;
  protocol::CreateQpReply reply{};
  reply.qpn = qpn;
  reply.receive_depth = depth;
  reply.generation = qp.generation;
  done(reply, {qp.ring.fd.get()});
}

void FakeEngine::create_srq(const protocol::CreateSrqRequest& request) {
  const uint32_t depth = pipe::round_up_power_of_two(request.max_wr);
  const uint32_t id = next_id_++;
  FakeSrq& srq = srqs_[id];
  srq.cookie = request.cookie;
  srq.max_sge = request.max_sge;
  srq.ring = FakeRing::make(pipe::receive_ring_bytes(depth, request.max_sge));
  srq.receives = pipe::ReceiveConsumer(srq.ring.base, depth, request.max_sge);
  ++objects;
  protocol::CreateSrqReply reply{};
  reply.srq = id;
  reply.depth = depth;
  done(reply, {srq.ring.fd.get()});
}

void FakeEngine::modify_qp(const protocol::ModifyQpRequest& request) {
  FakeQp& qp = qps_.at(request.qpn);
  if ((request.mask & base::kQpState) != 0) qp.attributes.state = request.attributes.state;
  if ((request.mask & base::kQpDestQpn) != 0) {
    qp.attributes.destination_qpn = request.attributes.destination_qpn;
  }
  if ((request.mask & base::kQpAddressVector) != 0) {
    qp.attributes.address = request.attributes.address;
  }
  if (qp.attributes.state == base::QpState::kReset) {
    ++qp.generation;
    qp.sends_done = qp.receives_done = 0;
    if (qp.request.srq == 0) qp.receives.reset();
  }
  protocol::ModifyQpReply reply{};
  reply.state = static_cast<uint32_t>(qp.attributes.state);
  reply.generation = qp.generation;
  done(reply);
}

bool FakeEngine::answer(const std::byte* message, size_t bytes) {
  std::memcpy(&current_, message, sizeof current_);
  protocol::EmptyReply empty{};
  using protocol::MessageType;
  const auto as = [message]<typename T>(T request) {
    std::memcpy(static_cast<void*>(&request), message, sizeof request);
    return request;
  };
  switch (static_cast<MessageType>(current_.type)) {
    case MessageType::kHello: hello(); return true;
    case MessageType::kAllocatePd: {
      protocol::AllocatePdReply reply{};
      reply.pd = next_id_++;
      ++objects;
      done(reply);
      return true;
    }
    case MessageType::kRegisterMr: {
      const std::lock_guard lock(mutex_);
      std::memcpy(static_cast<void*>(&registration_), message, bytes);
      ++registrations;
      ++objects;
      protocol::RegisterMrReply reply{};
      reply.key = next_id_++;
      done(reply);
      return true;
    }
    case MessageType::kCreateChannel: {
      int ends[2];
      FLEXINS_CHECK(::pipe2(ends, O_CLOEXEC) == 0);
      const base::UniqueFd read_end(ends[0]);
      protocol::CreateChannelReply reply{};
      reply.channel = next_id_++;
      channels_[reply.channel].reset(ends[1]);
      done(reply, {read_end.get()});
      return true;
    }
    case MessageType::kDestroyChannel:
      channels_.erase(as(protocol::DestroyChannelRequest{}).channel);
      ++channels_destroyed;
      break;
    case MessageType::kCreateCq: create_cq(as(protocol::CreateCqRequest{})); return true;
    case MessageType::kResizeCq: resize_cq(as(protocol::ResizeCqRequest{})); return true;
    case MessageType::kModifyCq:
    case MessageType::kReregisterMr:
    case MessageType::kSetQpRate:
    case MessageType::kFreeDm: break;
    case MessageType::kAllocateNullMr:
    case MessageType::kRegisterDmMr: {
      ++objects;
      protocol::RegisterMrReply reply{};
      reply.key = next_id_++;
      done(reply);
      return true;
    }
    case MessageType::kAllocateDm: {
      const auto request = as(protocol::AllocateDmRequest{});
      const FakeRing memory = FakeRing::make(request.length);
      protocol::AllocateDmReply reply{};
      reply.dm = next_id_++;
      reply.length = request.length;
      done(reply, {memory.fd.get()});
      return true;
    }
    case MessageType::kCreateSubmissionRing: {
      protocol::CreateSubmissionRingReply reply{};
      if (rings_.size() + 1 == pipe::kMaxSubmissionRings) {
        refuse_with = ENOSPC;
        done(reply);
        refuse_with = 0;
        return true;
      }
      rings_.push_back(FakeRing::make(pipe::submission_ring_bytes()));
      reply.ring = static_cast<uint32_t>(rings_.size());
      done(reply, {rings_.back().fd.get()});
      return true;
    }
    case MessageType::kCreateQp: create_qp(as(protocol::CreateQpRequest{})); return true;
    case MessageType::kCreateSrq: create_srq(as(protocol::CreateSrqRequest{})); return true;
    case MessageType::kModifySrq: {
      const auto request = as(protocol::ModifySrqRequest{});
      srqs_.at(request.srq).limit = request.limit;
      break;
    }
    case MessageType::kQuerySrq: {
      protocol::QuerySrqReply reply{};
      reply.limit = srqs_.at(as(protocol::QuerySrqRequest{}).srq).limit;
      done(reply);
      return true;
    }
    case MessageType::kDestroySrq:
      srqs_.erase(as(protocol::DestroySrqRequest{}).srq);
      --objects;
      break;
    case MessageType::kAllocateMw: {
      protocol::AllocateMwReply reply{};
      reply.key = next_id_++ << 8;
      ++objects;
      done(reply);
      return true;
    }
    case MessageType::kFreeMw: --objects; break;
    case MessageType::kModifyQp: modify_qp(as(protocol::ModifyQpRequest{})); return true;
    case MessageType::kQueryQp: {
      protocol::QueryQpReply reply{};
      reply.attributes = qps_.at(as(protocol::QueryQpRequest{}).qpn).attributes;
      done(reply);
      return true;
    }
    case MessageType::kQueryPort: {
      protocol::QueryPortReply reply{};
      reply.port.active = 1;
      reply.port.active_mtu_bytes = 1024;
      reply.port.max_mtu_bytes = 4096;
      done(reply);
      return true;
    }
    case MessageType::kDestroyCq:
      cqs_.erase(as(protocol::DestroyCqRequest{}).cq);
      --objects;
      break;
    case MessageType::kDestroyQp:
      qps_.erase(as(protocol::DestroyQpRequest{}).qpn);
      --objects;
      break;
    case MessageType::kFreePd:
    case MessageType::kDeregisterMr: --objects; break;
    default: return false;
  }
  done(empty);
  return true;
}

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
  FakeSrq* srq = to.request.srq != 0 ? &srqs_.at(to.request.srq) : nullptr;
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
  ++to.receives_done;
  complete(to, false, wr_id,
           write ? base::WcOpcode::kReceiveRdmaWithImmediate : base::WcOpcode::kReceive,
           static_cast<uint32_t>(data.size()), from.immediate, flags);
  return true;
}

void FakeEngine::complete(FakeQp& qp, bool is_send, uint64_t wr_id, base::WcOpcode opcode,
                          uint32_t bytes, uint32_t immediate, uint32_t flags) {
  FakeCq& cq = cqs_.at(is_send ? qp.request.send_cq : qp.request.receive_cq);
  if (!cq.producer.has_room()) return cq.producer.mark_overflowed();
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
  cq.producer.push(entry);
  if (cq.producer.take_arm(false) && cq.request.channel != 0) {
    const uint64_t cookie = cq.request.cookie;
    FLEXINS_CHECK(::write(channels_.at(cq.request.channel).get(), &cookie, sizeof cookie) == 8);
  }
}

void FakeEngine::raise_async(uint64_t cookie, uint32_t type) {
  const struct {
    uint64_t element;
    uint32_t type, reserved;
  } record{cookie, type, 0};
  FLEXINS_CHECK(::write(async_write_.get(), &record, sizeof record) == sizeof record);
}

protocol::RegisterMrRequest FakeEngine::last_registration() {
  const std::lock_guard lock(mutex_);
  return registration_;
}

std::vector<protocol::WindowSegment> FakeEngine::last_segments() {
  const auto request = last_registration();
  return {request.segments, request.segments + request.segment_count};
}

FakeEngine::LocalRequest FakeEngine::last_local() {
  const std::lock_guard lock(mutex_);
  return local_;
}

}  // namespace flexins::provider
