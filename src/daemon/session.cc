#include "daemon/session.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <spdlog/spdlog.h>

#include "daemon/session_reply.h"
#include "pipe/layout.h"

namespace flexins::daemon {
namespace {

using protocol::MessageHeader;
using protocol::MessageType;

/// Names end up on terminals.
std::string printable(const char* text, size_t limit) {
  std::string clean(text, ::strnlen(text, limit));
  std::replace_if(
      clean.begin(), clean.end(), [](char c) { return c < 0x20 || c > 0x7e; }, '?');
  return clean;
}

/// Completes `reply` as the answer to `request`.
void address_reply(Reply& reply, const MessageHeader& request, int status) {
  MessageHeader header{};
  std::memcpy(&header, reply.bytes.data(), sizeof header);
  header.type = request.type;
  header.sequence = request.sequence;
  header.length = static_cast<uint32_t>(reply.bytes.size());
  if (status != 0) header.status = static_cast<uint16_t>(status);
  std::memcpy(reply.bytes.data(), &header, sizeof header);
}

}  // namespace

Session::Session(const SessionEnvironment& environment, TenantUse& use, PeerCredentials peer)
    : environment_(environment), use_(use), peer_(peer) {
  count(&TenantUse::sessions);
}

Session::~Session() {
  if (open_) {
    environment_.worker->call([this](engine::Engine& engine) {
      engine.close_context(context_);
      environment_.worker->remove_sleeper(wake_page().need_wakeup, wake_event_.get());
    });
    use_.contexts.erase(context_);
  }
  while (!device_memory_.empty()) release_device_memory(*device_memory_.begin());
  use_.sessions -= held_.sessions;
  use_.pds -= held_.pds;
  use_.regions -= held_.regions;
  use_.cqs -= held_.cqs;
  use_.channels -= held_.channels;
  use_.qps -= held_.qps;
  use_.srqs -= held_.srqs;
  use_.windows -= held_.windows;
  use_.xrcds -= held_.xrcds;
  use_.spread_tables -= held_.spread_tables;
  use_.counters -= held_.counters;
  use_.ring_bytes -= held_.ring_bytes;
}

Reply Session::handle(std::span<const std::byte> message, std::vector<base::UniqueFd> fds) {
  MessageHeader header{};
  std::memcpy(&header, message.data(), std::min(message.size(), sizeof header));
  Answer answer = dispatch(message, std::move(fds));
  if (answer.ok()) {
    Reply reply = std::move(answer).value();
    address_reply(reply, header, 0);
    return reply;
  }
  spdlog::debug("context {} ({}): message {} refused: {} ({})", context_.value, program_,
                header.type, answer.error().message, std::strerror(answer.error().code));
  Reply reply = done();
  address_reply(reply, header, answer.error().code);
  return reply;
}

Session::Answer Session::dispatch(std::span<const std::byte> message, Fds fds) {
  MessageHeader header{};
  if (message.size() < sizeof header) return invalid("shorter than a header");
  std::memcpy(&header, message.data(), sizeof header);
  if (header.length != message.size()) return invalid("its length is not what it says");
  const auto with = [&]<typename Request>(Answer (Session::*handler)(const Request&)) -> Answer {
    const std::optional<Request> request = decode<Request>(message);
    if (!request) return invalid("wrong size for its type");
    return (this->*handler)(*request);
  };
  const auto type = static_cast<MessageType>(header.type);
  if (type == MessageType::kHello) {
    const auto request = decode<protocol::HelloRequest>(message);
    // Another version's Hello may have another size; its beginning stays.
    if (!request) return invalid("wrong size for a Hello");
    return hello(*request, std::move(fds));
  }
  if (!open_) return base::Error{EPROTO, "no Hello came before it"};
  switch (type) {
    case MessageType::kHello:
    case MessageType::kCmHello:  // these have a socket of their own
    case MessageType::kCmIdentify:
    case MessageType::kCmCommand: break;
    case MessageType::kAllocatePd: return with(&Session::allocate_pd);
    case MessageType::kFreePd: return with(&Session::free_pd);
    case MessageType::kRegisterMr: return register_mr(message, std::move(fds));
    case MessageType::kDeregisterMr: return with(&Session::deregister_mr);
    case MessageType::kAllocateMw: return with(&Session::allocate_mw);
    case MessageType::kFreeMw: return with(&Session::free_mw);
    case MessageType::kCreateChannel: return with(&Session::create_channel);
    case MessageType::kDestroyChannel: return with(&Session::destroy_channel);
    case MessageType::kCreateCq: return with(&Session::create_cq);
    case MessageType::kDestroyCq: return with(&Session::destroy_cq);
    case MessageType::kCreateSrq: return with(&Session::create_srq);
    case MessageType::kModifySrq: return with(&Session::modify_srq);
    case MessageType::kResizeSrq: return with(&Session::resize_srq);
    case MessageType::kQuerySrq: return with(&Session::query_srq);
    case MessageType::kDestroySrq: return with(&Session::destroy_srq);
    case MessageType::kCreateQp: return with(&Session::create_qp);
    case MessageType::kModifyQp: return with(&Session::modify_qp);
    case MessageType::kQueryQp: return with(&Session::query_qp);
    case MessageType::kDestroyQp: return with(&Session::destroy_qp);
    case MessageType::kQueryPort: return with(&Session::query_port);
    case MessageType::kCreateSubmissionRing: return with(&Session::create_submission_ring);
    case MessageType::kResizeCq: return with(&Session::resize_cq);
    case MessageType::kModifyCq: return with(&Session::modify_cq);
    case MessageType::kReregisterMr: return reregister_mr(message, std::move(fds));
    case MessageType::kAllocateNullMr: return with(&Session::allocate_null_mr);
    case MessageType::kAllocateDm: return with(&Session::allocate_dm);
    case MessageType::kFreeDm: return with(&Session::free_dm);
    case MessageType::kRegisterDmMr: return with(&Session::register_dm_mr);
    case MessageType::kImportPd: return with(&Session::import_pd);
    case MessageType::kImportMr: return with(&Session::import_mr);
    case MessageType::kImportDm: return with(&Session::import_dm);
    case MessageType::kSetQpRate: return with(&Session::set_qp_rate);
    case MessageType::kCreateAh: return with(&Session::create_ah);
    case MessageType::kDestroyAh: return with(&Session::destroy_ah);
    case MessageType::kAttachMulticast: return with(&Session::attach_multicast);
    case MessageType::kDetachMulticast: return with(&Session::detach_multicast);
    case MessageType::kCreateFlow: return with(&Session::create_flow);
    case MessageType::kOpenXrcd: return open_xrcd(message, std::move(fds));
    case MessageType::kCloseXrcd: return with(&Session::close_xrcd);
    case MessageType::kOpenQp: return with(&Session::open_qp);
    case MessageType::kCloseQp: return with(&Session::close_qp);
    case MessageType::kDestroyFlow: return with(&Session::destroy_flow);
    case MessageType::kCreateCounters: return with(&Session::create_counters);
    case MessageType::kReadCounters: return with(&Session::read_counters);
    case MessageType::kDestroyCounters: return with(&Session::destroy_counters);
    case MessageType::kCreateSpreadTable: return create_spread_table(message);
    case MessageType::kDestroySpreadTable: return with(&Session::destroy_spread_table);
    case MessageType::kCreateSpreadingQp: return with(&Session::create_spreading_qp);
  }
  return invalid("no such message type");
}

Session::Answer Session::hello(const protocol::HelloRequest& request, Fds fds) {
  if (request.magic != protocol::kMagic) return base::Error{EPROTO, "not a FlexiNS application"};
  if (open_) return invalid("a second Hello");
  program_ = printable(request.program, sizeof request.program);
  protocol::HelloReply reply{};
  reply.protocol_version = protocol::kProtocolVersion;
  reply.pipe_version = pipe::kPipeVersion;
  if (request.protocol_version != protocol::kProtocolVersion ||
      request.pipe_version != pipe::kPipeVersion) {
    spdlog::warn(
        "{} (pid {}) speaks protocol {} pipe {}, this engine protocol {} pipe {}: refused; "
        "install provider and engine of one FlexiNS version",
        program_, peer_.pid, request.protocol_version, request.pipe_version,
        protocol::kProtocolVersion, pipe::kPipeVersion);
    reply.header.status = EPROTONOSUPPORT;
    return make_reply(reply);
  }
  if (!fds.empty()) {
    auto process = environment_.windows->open_process(std::move(fds[0]), peer_.pid);
    if (!process) return process.error();
    process_ = std::move(process).value();
  }
  auto async = EventPipe::create();
  if (!async) return async.error();
  auto ring = allocate_ring("flexins-submission", pipe::submission_ring_bytes());
  if (!ring) return ring.error();
  base::UniqueFd ring_fd = ring->take_fd();
  submission_rings_.push_back(std::move(ring).value());
  events_ = std::make_unique<EventPipes>(std::move(async->ours));
  if (auto opened = open_context(); !opened) {
    free_ring(std::move(submission_rings_.back()));
    submission_rings_.clear();
    return opened.error();
  }
  base::UniqueFd wake_fd(::fcntl(wake_event_.get(), F_DUPFD_CLOEXEC, 0));
  if (!wake_fd.valid()) return base::Error{errno, "wake descriptor"};
  reply.context = context_.value;
  reply.engine_pid = static_cast<uint32_t>(::getpid());
  reply.node_guid = environment_.node_guid;
  reply.engine_incarnation = environment_.incarnation;
  reply.port = environment_.port;
  spdlog::info("context {}: {} (pid {}, uid {})", context_.value, program_, peer_.pid, peer_.uid);
  return make_reply(reply, wake_page_.take_fd(), std::move(wake_fd), std::move(async->read),
                    std::move(ring_fd));
}

base::Result<void> Session::open_context() {
  auto page = SharedMemory::create("flexins-wake", sizeof(pipe::WakePage));
  if (!page) return page.error();
  wake_page_ = std::move(page).value();
  wake_event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_event_.valid()) return base::Error{errno, "eventfd"};
  const SharedMemory& ring = submission_rings_.front();
  auto opened =
      environment_.worker->call([&](engine::Engine& engine) -> base::Result<base::ContextId> {
        auto context = engine.open_context(events_.get(), {ring.data(), ring.bytes()});
        if (!context) return context;
        auto added = environment_.worker->add_sleeper(wake_page().need_wakeup, wake_event_.get());
        if (added) return context;
        engine.close_context(*context);
        return added.error();
      });
  if (!opened) return opened.error();
  context_ = *opened;
  open_ = true;
  use_.contexts.insert(context_);
  return {};
}

base::Result<SharedMemory> Session::allocate_ring(const char* name, size_t bytes) {
  if (bytes > environment_.limits.ring_bytes_max -
                  std::min(use_.ring_bytes, environment_.limits.ring_bytes_max)) {
    return base::Error{ENOMEM, "the tenant's limit of ring memory is reached"};
  }
  auto ring = SharedMemory::create(name, bytes);
  if (!ring) return ring;
  held_.ring_bytes += ring->bytes();
  use_.ring_bytes += ring->bytes();
  return ring;
}

void Session::free_ring(SharedMemory ring) {
  held_.ring_bytes -= ring.bytes();
  use_.ring_bytes -= ring.bytes();
}

base::Result<void> Session::check_limit(const char* what, uint32_t held, uint32_t limit) const {
  if (held < limit) return {};
  return base::Error{ENOMEM,
                     "the tenant's limit of " + std::to_string(limit) + " " + what + " is reached"};
}

}  // namespace flexins::daemon
