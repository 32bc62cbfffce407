#pragma once

#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "pipe/completion_ring.h"
#include "pipe/receive_ring.h"
#include "pipe/submission_ring.h"
#include "protocol/framing.h"
#include "protocol/messages.h"
#include "protocol/messages_cq.h"
#include "protocol/messages_datagram.h"
#include "protocol/messages_memory.h"
#include "protocol/messages_mw.h"
#include "protocol/messages_qp.h"
#include "protocol/messages_spread.h"
#include "protocol/messages_srq.h"
#include "protocol/messages_xrc.h"

namespace flexins::provider {

/// A mapped memfd that goes to the application.
struct FakeRing {
  base::UniqueFd fd;
  std::byte* base = nullptr;
  static FakeRing make(size_t bytes);
};

struct FakeQp {
  protocol::CreateQpRequest request{};
  base::QpAttributes attributes;
  FakeRing ring;
  pipe::ReceiveConsumer receives;
  uint32_t generation = 5;
  uint32_t sends_done = 0;
  uint32_t receives_done = 0;
};

struct FakeSrq {
  FakeRing ring;
  pipe::ReceiveConsumer receives;
  uint64_t cookie = 0;
  uint32_t max_sge = 1;
  uint32_t limit = 0;
  uint32_t cq = 0;  ///< of an XRC SRQ
};

struct FakeCq {
  protocol::CreateCqRequest request{};
  FakeRing ring;
  pipe::CompletionProducer producer;
};

/// Speaks the session protocol from a thread and moves data between QPs of this very process:
/// enough of an engine to drive the provider through libibverbs.
class FakeEngine {
 public:
  /// Listens at `<runtime_dir>/default/session.sock`.
  explicit FakeEngine(const std::string& runtime_dir);
  ~FakeEngine();

  /// Dies as by SIGKILL: everything closes, nothing is completed.
  void kill();
  /// The same, but the pipes end some time before the session.
  void kill_slowly();
  /// While paused, control works and work requests stay where they are.
  void pause(bool paused) { paused_ = paused; }
  /// Sleeps between work until woken through the wake descriptor.
  void sleep_when_idle(bool sleep) { sleepy_ = sleep; }
  /// An async event for the object with `cookie`.
  void raise_async(uint64_t cookie, uint32_t type);

  std::atomic<int> wakes{0};
  std::atomic<int> kicks{0};
  std::atomic<int> refuse_with{0};  ///< status of every reply
  std::atomic<int> registrations{0};
  std::atomic<int> channels_destroyed{0};
  std::atomic<int> targets_opened{0};
  std::atomic<int> targets_closed{0};
  std::atomic<int> xrcd_flags{0};          ///< oflags of the last domain opened
  std::atomic<uint32_t> flow_counters{0};  ///< that the last flow named
  std::atomic<uint32_t> objects{0};        ///< PDs, regions, CQs and QPs alive

  [[nodiscard]] std::vector<protocol::WindowSegment> last_segments();
  [[nodiscard]] protocol::RegisterMrRequest last_registration();

  /// The bind or invalidation that was executed last.
  struct LocalRequest {
    uint32_t key = 0;
    uint32_t new_key = 0;
    uint64_t address = 0;
    pipe::BindOperands bind{};
  };
  [[nodiscard]] LocalRequest last_local();
  [[nodiscard]] protocol::CreateSpreadTableRequest last_table();
  [[nodiscard]] protocol::CreateSpreadingQpRequest last_spreading();

 private:
  void run();
  bool serve_one();
  bool answer(const std::byte* message, size_t bytes);
  void send_reply(protocol::MessageHeader& reply, size_t bytes, const std::vector<int>& fds = {});
  template <typename Reply>
  void done(Reply& reply, const std::vector<int>& fds = {});
  void hello();
  void create_cq(const protocol::CreateCqRequest& request);
  void resize_cq(const protocol::ResizeCqRequest& request);
  void create_qp(const protocol::CreateQpRequest& request);
  void create_srq(const protocol::CreateSrqRequest& request);
  void resize_srq(const protocol::ResizeSrqRequest& request);
  void modify_qp(const protocol::ModifyQpRequest& request);
  void destroy_cq(const protocol::DestroyCqRequest& request);
  void destroyed(uint32_t async_events, uint32_t completion_events = 0);
  uint32_t settle(int write_end, size_t record_bytes, uint64_t cookie);
  uint32_t settle_async(uint64_t cookie);
  bool step();
  void execute(const pipe::SubmissionEntry& entry);
  bool receive(FakeQp& to, const std::vector<std::byte>& data, const pipe::SubmissionSlot& from);
  void push(FakeCq& cq, const pipe::CompletionEntry& entry);
  void complete(FakeQp& qp, bool is_send, uint64_t wr_id, base::WcOpcode opcode, uint32_t bytes,
                uint32_t immediate, uint32_t flags);
  void idle();

  base::UniqueFd listener_;
  base::UniqueFd socket_;
  base::UniqueFd wake_fd_;
  base::UniqueFd async_write_;
  FakeRing wake_page_;
  std::vector<FakeRing> rings_;  ///< submission rings beyond the first; nothing is taken from them
  FakeRing submission_;
  pipe::SubmissionConsumer consumer_;
  std::map<uint32_t, FakeCq> cqs_;
  std::map<uint32_t, FakeQp> qps_;
  std::map<uint32_t, FakeSrq> srqs_;
  std::map<uint32_t, base::UniqueFd> channels_;
  /// Events written to a pipe, by its write end and the cookie of the object.
  std::map<std::pair<int, uint64_t>, uint32_t> delivered_;
  std::deque<pipe::SubmissionEntry> waiting_;  ///< sends whose receiver is not ready
  uint32_t next_id_ = 100;
  protocol::MessageHeader current_{};
  std::mutex mutex_;
  protocol::RegisterMrRequest registration_{};
  LocalRequest local_;
  protocol::CreateSpreadTableRequest table_{};
  protocol::CreateSpreadingQpRequest spreading_{};
  std::atomic<bool> paused_{false};
  std::atomic<bool> sleepy_{false};
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

}  // namespace flexins::provider
