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
  if (request.srq != 0 || base::is_xrc(static_cast<base::QpType>(request.type))) {
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
  srq.cq = request.cq;
  srq.ring = FakeRing::make(pipe::receive_ring_bytes(depth, request.max_sge));
  srq.receives = pipe::ReceiveConsumer(srq.ring.base, depth, request.max_sge);
  ++objects;
  protocol::CreateSrqReply reply{};
  reply.srq = id;
  reply.depth = depth;
  done(reply, {srq.ring.fd.get()});
}

void FakeEngine::resize_srq(const protocol::ResizeSrqRequest& request) {
  FakeSrq& srq = srqs_.at(request.srq);
  const uint32_t depth = pipe::round_up_power_of_two(request.max_wr);
  FakeRing ring = FakeRing::make(pipe::receive_ring_bytes(depth, srq.max_sge));
  FLEXINS_CHECK(srq.receives.move_to(ring.base, depth));
  srq.ring = std::move(ring);
  protocol::ResizeSrqReply reply{};
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

void FakeEngine::destroyed(uint32_t async_events, uint32_t completion_events) {
  --objects;
  protocol::DestroyReply reply{};
  reply.async_events = async_events;
  reply.completion_events = completion_events;
  done(reply);
}

void FakeEngine::destroy_cq(const protocol::DestroyCqRequest& request) {
  const auto cq = cqs_.extract(request.cq);
  const protocol::CreateCqRequest& made = cq.mapped().request;
  uint32_t completion_events = 0;
  if (made.channel != 0) {
    completion_events = settle(channels_.at(made.channel).get(), sizeof(uint64_t), made.cookie);
  }
  destroyed(settle_async(made.cookie), completion_events);
}

uint32_t FakeEngine::settle_async(uint64_t cookie) {
  constexpr size_t kAsyncRecordBytes = 16;
  return settle(async_write_.get(), kAsyncRecordBytes, cookie);
}

/// Takes the events of `cookie` out of a pipe. Returns how many had been read of it before.
uint32_t FakeEngine::settle(int write_end, size_t record_bytes, uint64_t cookie) {
  const std::lock_guard lock(mutex_);
  const std::string path = "/proc/self/fd/" + std::to_string(write_end);
  const base::UniqueFd in(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  uint32_t read = std::exchange(delivered_[{write_end, cookie}], 0);
  std::vector<char> others;
  std::vector<char> record(record_bytes);
  while (::read(in.get(), record.data(), record_bytes) == static_cast<ssize_t>(record_bytes)) {
    uint64_t found = 0;
    std::memcpy(&found, record.data(), sizeof found);
    if (found == cookie) {
      --read;
    } else {
      others.insert(others.end(), record.begin(), record.end());
    }
  }
  const auto bytes = static_cast<ssize_t>(others.size());
  FLEXINS_CHECK(::write(write_end, others.data(), others.size()) == bytes);
  return read;
}

bool FakeEngine::answer(const std::byte* message, size_t bytes) {
  std::memcpy(&current_, message, sizeof current_);
  protocol::EmptyReply empty{};
  using protocol::MessageType;
  const auto as = [message]<typename T>(T request, size_t length = sizeof(T)) {
    std::memcpy(static_cast<void*>(&request), message, length);
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
    case MessageType::kResizeSrq: resize_srq(as(protocol::ResizeSrqRequest{})); return true;
    case MessageType::kQuerySrq: {
      protocol::QuerySrqReply reply{};
      reply.limit = srqs_.at(as(protocol::QuerySrqRequest{}).srq).limit;
      done(reply);
      return true;
    }
    case MessageType::kDestroySrq: {
      const auto srq = srqs_.extract(as(protocol::DestroySrqRequest{}).srq);
      destroyed(settle_async(srq.mapped().cookie));
      return true;
    }
    case MessageType::kCreateCounters: {
      ++objects;
      protocol::CreateCountersReply reply{};
      reply.counters = next_id_++;
      done(reply);
      return true;
    }
    case MessageType::kReadCounters: {
      protocol::ReadCountersReply reply{};
      reply.counts = {3, 200};
      done(reply);
      return true;
    }
    case MessageType::kDestroyCounters: --objects; break;
    case MessageType::kCreateFlow: {
      ++objects;
      protocol::CreateFlowReply reply{};
      reply.flow = next_id_++;
      flow_counters = as(protocol::CreateFlowRequest{}).counters;
      done(reply);
      return true;
    }
    case MessageType::kDestroyFlow: --objects; break;
    case MessageType::kCreateSpreadTable: {
      ++objects;
      const std::lock_guard lock(mutex_);
      table_ = as(protocol::CreateSpreadTableRequest{}, bytes);
      protocol::CreateSpreadTableReply reply{};
      reply.table = next_id_++;
      done(reply);
      return true;
    }
    case MessageType::kDestroySpreadTable: --objects; break;
    case MessageType::kCreateSpreadingQp: {
      ++objects;
      const std::lock_guard lock(mutex_);
      spreading_ = as(protocol::CreateSpreadingQpRequest{});
      protocol::CreateSpreadingQpReply reply{};
      reply.qpn = next_id_++;
      done(reply);
      return true;
    }
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
    case MessageType::kDestroyCq: destroy_cq(as(protocol::DestroyCqRequest{})); return true;
    case MessageType::kDestroyQp: {
      // Those without queues of their own are not among them.
      const auto qp = qps_.extract(as(protocol::DestroyQpRequest{}).qpn);
      destroyed(qp.empty() ? 0 : settle_async(qp.mapped().request.cookie));
      return true;
    }
    case MessageType::kOpenXrcd: {
      const auto request = as(protocol::OpenXrcdRequest{});
      xrcd_flags = (request.create != 0 ? O_CREAT : 0) | (request.exclusive != 0 ? O_EXCL : 0);
      protocol::OpenXrcdReply reply{};
      reply.xrcd = next_id_++;
      ++objects;
      done(reply);
      return true;
    }
    case MessageType::kOpenQp:
      ++objects;
      ++targets_opened;
      break;
    case MessageType::kCloseQp:
      ++targets_closed;
      destroyed(settle_async(as(protocol::CloseQpRequest{}).cookie));
      return true;
    case MessageType::kCloseXrcd:
    case MessageType::kFreePd:
    case MessageType::kDeregisterMr: --objects; break;
    default: return false;
  }
  done(empty);
  return true;
}

void FakeEngine::raise_async(uint64_t cookie, uint32_t type) {
  const struct {
    uint64_t element;
    uint32_t type, reserved;
  } record{cookie, type, 0};
  const std::lock_guard lock(mutex_);
  FLEXINS_CHECK(::write(async_write_.get(), &record, sizeof record) == sizeof record);
  ++delivered_[{async_write_.get(), cookie}];
}

protocol::RegisterMrRequest FakeEngine::last_registration() {
  const std::lock_guard lock(mutex_);
  return registration_;
}

std::vector<protocol::WindowSegment> FakeEngine::last_segments() {
  const auto request = last_registration();
  return {request.segments, request.segments + request.segment_count};
}

protocol::CreateSpreadTableRequest FakeEngine::last_table() {
  const std::lock_guard lock(mutex_);
  return table_;
}

protocol::CreateSpreadingQpRequest FakeEngine::last_spreading() {
  const std::lock_guard lock(mutex_);
  return spreading_;
}

FakeEngine::LocalRequest FakeEngine::last_local() {
  const std::lock_guard lock(mutex_);
  return local_;
}

}  // namespace flexins::provider
