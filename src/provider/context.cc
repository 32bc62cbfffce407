#include "provider/context.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <string>

#include "protocol/runtime_dir.h"
#include "provider/log.h"
#include "provider/memory.h"
#include "provider/registry.h"
#include "window/client.h"

namespace flexins::provider {
namespace {

base::TimeNs coarse_now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
  return static_cast<base::TimeNs>(now.tv_sec) * base::kSecond +
         static_cast<base::TimeNs>(now.tv_nsec);
}

std::string version_text(uint32_t protocol, uint32_t pipe) {
  return "protocol " + std::to_string(protocol) + ", pipe " + std::to_string(pipe);
}

base::Error hello_failed(int error, const protocol::HelloReply& reply) {
  if (error != EPROTONOSUPPORT) {
    return {error, std::string("the engine refused the session: ") + std::strerror(error)};
  }
  return {error, "the engine speaks another version (" +
                     version_text(reply.protocol_version, reply.pipe_version) +
                     "; this program's " +
                     "library: " + version_text(protocol::kProtocolVersion, pipe::kPipeVersion) +
                     "): restart the engine"};
}

}  // namespace

Context& Context::of(ibv_context* face) {
  auto* verbs = reinterpret_cast<std::byte*>(face) - offsetof(verbs_context, context);
  return *reinterpret_cast<ContextFace*>(verbs - offsetof(ContextFace, verbs))->context;
}

base::Result<std::unique_ptr<Context>> Context::open(ibv_context* face) {
  auto socket = protocol::connect_session(protocol::engine_name());
  if (!socket) return socket.error();
  return open(face, std::move(socket).value());
}

base::Result<std::unique_ptr<Context>> Context::open(ibv_context* face, base::UniqueFd socket) {
  std::unique_ptr<Context> context(new Context(face, std::move(socket)));
  if (auto started = context->start(); !started) return started.error();
  register_context(context.get());
  return context;
}

Context::~Context() { unregister_context(this); }

base::Result<void> Context::start() {
  protocol::HelloRequest hello{};
  hello.magic = protocol::kMagic;
  hello.protocol_version = protocol::kProtocolVersion;
  hello.pipe_version = pipe::kPipeVersion;
  std::strncpy(hello.program, program_invocation_short_name, sizeof hello.program - 1);
  const int memory = window::WindowClient::instance().memory_descriptor();
  protocol::HelloReply reply{};
  protocol::ReceivedFds fds;
  const auto offered = std::span<const int>(&memory, memory >= 0 ? 1 : 0);
  if (const int error = session_.call(hello, reply, offered, &fds); error != 0) {
    return hello_failed(error, reply);
  }
  auto ring = std::make_unique<SubmissionRing>();
  base::UniqueFd async = fds.take(2);
  wake_fd_ = std::move(fds.fds[1]);
  if (fds.count < 4 || !wake_memory_.map(fds.take(0), sizeof(pipe::WakePage)) ||
      !ring->memory.map(fds.take(3), pipe::submission_ring_bytes())) {
    return base::Error{EPROTO, "the engine's answer lacks a ring"};
  }
  wake_page_ = reinterpret_cast<pipe::WakePage*>(wake_memory_.base());
  ring->producer = pipe::SubmissionProducer(ring->memory.base());
  rings_.push_back(std::move(ring));
  async_fd_ = async.release();
  node_guid_ = reply.node_guid;
  id_ = reply.context;
  return {};
}

bool Context::usable() {
  if (!live()) return false;
  // A child made by a bare clone() ran no fork handler; it must not speak in its parent's session.
  if (::getpid() == owner_pid_) return true;
  disown();
  return false;
}

int Context::checked(int error) {
  if (error != ECONNRESET && error != EPROTO) return error;
  mark_dead();
  return EIO;
}

void Context::mark_dead() {
  ContextState expected = ContextState::kLive;
  if (state_.compare_exchange_strong(expected, ContextState::kDead)) {
    log_line("the engine is gone; outstanding work is flushed");
  }
}

void Context::disown() {
  state_.store(ContextState::kForeign, std::memory_order_release);
  session_.abandon();
}

bool Context::check_liveness() {
  if (!live()) return false;
  const base::TimeNs now = coarse_now_ns();
  base::TimeNs due = next_liveness_check_ns_.load(std::memory_order_relaxed);
  if (now < due || !next_liveness_check_ns_.compare_exchange_strong(due, now + kLivenessIntervalNs,
                                                                    std::memory_order_relaxed)) {
    return true;
  }
  return check_liveness_now();
}

bool Context::check_liveness_now(int patience_ms) {
  if (!live()) return false;
  pollfd watched{session_.descriptor(), 0, 0};
  if (::poll(&watched, 1, patience_ms) > 0 &&
      (watched.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
    mark_dead();
  }
  return live();
}

bool Context::wait_for_room(SubmissionRing& ring, uint32_t slot_count) {
  while (!ring.producer.has_room(slot_count)) {
    // What was published so far may be all that the engine sleeps on.
    wake_engine_if_asleep();
    ::sched_yield();
    if (!check_liveness()) return false;
  }
  return true;
}

base::Result<SubmissionRing*> Context::take_ring() {
  {
    const std::lock_guard lock(mutex_);
    for (size_t i = 1; i < rings_.size(); ++i) {
      if (rings_[i]->taken) continue;
      rings_[i]->taken = true;
      return rings_[i].get();
    }
  }
  protocol::CreateSubmissionRingRequest request{};
  protocol::CreateSubmissionRingReply reply{};
  protocol::ReceivedFds fds;
  const int error = call(request, reply, {}, &fds);
  if (error == ENOSPC || error == ENOMEM) return rings_.front().get();
  if (error != 0) return base::Error{error, ""};
  auto ring = std::make_unique<SubmissionRing>();
  if (!ring->memory.map(fds.take(0), pipe::submission_ring_bytes())) {
    return base::Error{ENOMEM, ""};
  }
  ring->id = reply.ring;
  ring->producer = pipe::SubmissionProducer(ring->memory.base());
  ring->taken = true;
  ring->lock.belong_to_one_thread();
  const std::lock_guard lock(mutex_);
  rings_.push_back(std::move(ring));
  return rings_.back().get();
}

void Context::give_ring_back(SubmissionRing& ring) {
  const std::lock_guard lock(mutex_);
  ring.taken = false;
}

void Context::add_region(const Mr* mr) {
  const std::lock_guard lock(mutex_);
  regions_.emplace(mr->face.ibv.lkey, mr);
}

void Context::remove_region(const Mr* mr) {
  const std::lock_guard lock(mutex_);
  regions_.erase(mr->face.ibv.lkey);
}

std::optional<RegionFacts> Context::find_region(uint32_t key) {
  const std::lock_guard lock(mutex_);
  const auto found = regions_.find(key);
  if (found == regions_.end()) return std::nullopt;
  const verbs_mr& mr = found->second->face;
  return RegionFacts{reinterpret_cast<uint64_t>(mr.ibv.addr), mr.ibv.length, mr.ibv.pd->handle,
                     mr.access};
}

void Context::wake_engine() {
  const uint64_t one = 1;
  // A full counter means that it has been woken often enough.
  [[maybe_unused]] const ssize_t written = ::write(wake_fd_.get(), &one, sizeof one);
}

void Context::add_cq(Cq* cq) {
  const std::lock_guard lock(mutex_);
  cqs_.push_back(cq);
}

void Context::remove_cq(Cq* cq) {
  const std::lock_guard lock(mutex_);
  std::erase(cqs_, cq);
}

}  // namespace flexins::provider
