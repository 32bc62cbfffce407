#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/time.h"
#include "base/unique_fd.h"
#include "pipe/submission_ring.h"
#include "protocol/client.h"
#include "provider/abi.h"
#include "provider/shared_memory.h"
#include "provider/spin_lock.h"

namespace flexins::provider {

struct Cq;
struct Mr;

/// How a context stands to its engine.
enum class ContextState : uint8_t {
  kLive,
  kDead,     ///< the engine is gone: verbs fail with EIO, work completes with a flush error
  kForeign,  ///< we are a child that inherited it by fork: everything fails with EIO
};

/// The way to the engine for send work requests; several QPs may share one.
struct SubmissionRing {
  RingLock lock;
  SharedMemory memory;
  pipe::SubmissionProducer producer;
  uint32_t id = 0;
  bool taken = false;  ///< by a thread domain
};

/// What is remembered of a region for those who know only its key.
struct RegionFacts {
  uint64_t address;
  uint64_t length;
  uint32_t pd;
  int access;
};

/// A completion channel that the program has got.
struct Channel {
  int fd = -1;
  uint32_t id = 0;
};

/// An open device: the session with its engine and what all objects of it share.
class Context {
 public:
  /// Connects to the engine that the environment names. Errors are ready to be shown.
  static base::Result<std::unique_ptr<Context>> open(ibv_context* face);
  /// The same over a socket that is already connected.
  static base::Result<std::unique_ptr<Context>> open(ibv_context* face, base::UniqueFd socket);
  ~Context();

  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  static Context& of(ibv_context* face);

  [[nodiscard]] ContextState state() const { return state_.load(std::memory_order_acquire); }
  /// By fork: we are a child.
  [[nodiscard]] bool inherited() const {
    return state() == ContextState::kForeign || ::getpid() != owner_pid_;
  }
  [[nodiscard]] bool live() const { return state() == ContextState::kLive; }

  /// SessionClient::call; EIO on a context that is not live or just ceased to be.
  template <typename Request, typename Reply>
  int call(Request& request, Reply& reply, std::span<const int> fds = {},
           protocol::ReceivedFds* received = nullptr, size_t request_bytes = sizeof(Request)) {
    if (!usable()) return EIO;
    return checked(session_.call(request, reply, fds, received, request_bytes));
  }
  /// As call, for requests that free something: where there is no engine, nothing is left to free.
  template <typename Request>
  int call_to_free(Request& request) {
    protocol::EmptyReply reply;
    const int error = call(request, reply);
    return error == EIO ? 0 : error;
  }
  /// The same for what has events. `events`: none where there is no engine that counts them.
  template <typename Request>
  int call_to_destroy(Request& request, std::optional<protocol::DestroyReply>& events) {
    protocol::DestroyReply reply{};
    const int error = call(request, reply);
    if (error == 0) events = reply;
    return error == EIO ? 0 : error;
  }

  /// Asks the socket whether the engine still lives; at most every kLivenessIntervalNs, so that
  /// busy loops may call it. Returns live().
  bool check_liveness();
  /// The same, now; waits up to `patience_ms` for an end that is expected.
  bool check_liveness_now(int patience_ms = 0);

  /// After publishing work: wakes the engine if it said that it sleeps.
  void wake_engine_if_asleep() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (wake_page_->need_wakeup.load(std::memory_order_relaxed) != 0) wake_engine();
  }

  /// Under `ring.lock`: waits for room for `slot_count` slots. False when the engine died.
  [[nodiscard]] bool wait_for_room(SubmissionRing& ring, uint32_t slot_count);

  SubmissionRing& shared_ring() { return *rings_.front(); }
  /// A ring for a thread domain alone; the shared one where the engine gives no more.
  base::Result<SubmissionRing*> take_ring();
  void give_ring_back(SubmissionRing& ring);

  /// The engine's number of the context that this one was imported from; 0: of none.
  [[nodiscard]] uint32_t imported_from() const { return imported_from_; }
  void import_from(const Context& original) { imported_from_ = original.id_; }
  [[nodiscard]] uint64_t node_guid() const { return node_guid_; }
  [[nodiscard]] int async_fd() const { return async_fd_; }
  [[nodiscard]] ibv_context* face() const { return face_; }

  /// A new completion channel: its descriptor (the program's), or -errno.
  int create_channel();
  void channel_closing(int fd);
  /// The engine's id of the channel with descriptor `fd`; 0: not ours.
  [[nodiscard]] uint32_t channel_id(int fd);

  void add_cq(Cq* cq);
  void remove_cq(Cq* cq);
  void add_region(const Mr* mr);
  void remove_region(const Mr* mr);
  [[nodiscard]] std::optional<RegionFacts> find_region(uint32_t key);

  /// What a read of `fd` returns at end of file; see flexins_preload_hooks::read_eof.
  ssize_t read_eof(int fd, void* buffer, size_t length);

  /// Nothing that the engine does from now on can be trusted to reach us, or the reverse.
  void mark_dead();

  /// Only for a child after fork.
  void disown();

 private:
  Context(ibv_context* face, base::UniqueFd socket)
      : face_(face), session_(std::move(socket)), owner_pid_(::getpid()) {}
  base::Result<void> start();
  [[nodiscard]] bool usable();
  int checked(int error);
  void wake_engine();
  ssize_t last_async_event(void* buffer, size_t length);
  ssize_t last_completion_event(int fd, void* buffer, size_t length);

  static constexpr base::TimeNs kLivenessIntervalNs = 50 * base::kMillisecond;

  ibv_context* face_;
  protocol::SessionClient session_;
  pid_t owner_pid_;
  std::atomic<ContextState> state_{ContextState::kLive};
  std::atomic<base::TimeNs> next_liveness_check_ns_{0};
  SharedMemory wake_memory_;
  pipe::WakePage* wake_page_ = nullptr;
  base::UniqueFd wake_fd_;
  int async_fd_ = -1;  ///< libibverbs closes it
  uint64_t node_guid_ = 0;
  uint32_t id_ = 0;
  uint32_t imported_from_ = 0;
  std::vector<std::unique_ptr<SubmissionRing>> rings_;
  std::mutex mutex_;  ///< of all below
  std::vector<Channel> channels_;
  std::vector<Cq*> cqs_;
  std::unordered_map<uint32_t, const Mr*> regions_;
  bool fatal_event_given_ = false;
};

/// Memory that libibverbs allocates for a context: ours, then its own.
struct ContextFace {
  Context* context;
  verbs_context verbs;
};

}  // namespace flexins::provider
