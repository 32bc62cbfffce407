#pragma once

#include <map>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "pipe/completion_ring.h"
#include "pipe/receive_ring.h"
#include "pipe/submission_ring.h"
#include "sim/ring_memory.h"
#include "sim/surroundings.h"

namespace flexins::sim {

class Application;
class Host;

/// Told of what an application finds when it polls.
class CompletionHandler {
 public:
  virtual ~CompletionHandler() = default;
  virtual void on_completion(const pipe::CompletionEntry& entry) = 0;
};

/// What a QP is made with.
struct EndpointOptions {
  base::QpType type = base::QpType::kReliable;
  uint32_t cq = 0;  ///< index in the application
  uint32_t max_send_wr = 16;
  uint32_t max_receive_wr = 16;
  uint32_t max_sge = 4;
  uint32_t max_inline_bytes = 128;
  bool signal_all = false;
  bool shared_receives = false;
};

/// A QP as its application knows it.
struct Endpoint {
  Endpoint(Application& app, const EndpointOptions& with);
  Application* application;
  uint32_t life;  ///< of the application, in which this was made
  EndpointOptions options;
  base::Qpn qpn;
  QpLedger* ledger = nullptr;
  RingMemory ring;
  pipe::ReceiveProducer receives;
  CompletionHandler* handler = nullptr;
  uint32_t sends_posted = 0;
  uint32_t sends_retired = 0;
  uint32_t unsignalled = 0;  ///< in a row
  uint32_t receives_posted = 0;
  uint32_t receives_done = 0;
  bool destroyed = false;

  /// Its application lives, and it too.
  [[nodiscard]] bool usable() const;
  [[nodiscard]] uint32_t sends_outstanding() const { return sends_posted - sends_retired; }
};

/// A send work request on its way into the ring: what is not in the ledger's record.
struct SendOrder {
  std::vector<base::Sge> sges;
  std::vector<std::byte> inline_bytes;
  uint8_t flags = 0;  ///< base::SendFlags
  uint64_t remote_address = 0;
  uint32_t remote_key = 0;
  uint64_t compare_add = 0;
  uint64_t swap = 0;
  pipe::BindOperands bind{};
  uint32_t bind_old_key = 0;
};

/// A program on a host: its memory, and the application's end of every ring.
class Application final : public engine::EventSink, public Actor {
 public:
  Application(Host& host, uint32_t number, Random random);
  ~Application() override;

  // Life. ----------------------------------------------------------------------------------------
  void start();
  /// Ends without goodbye. `engine_died`: there is nobody to close the context.
  void die(bool engine_died);
  /// Ends in good order: gives all back. All its QPs are destroyed.
  void stop();
  /// Nobody has written to what it no longer held, in this life or a former one.
  void check_memory();
  [[nodiscard]] bool alive() const { return alive_; }
  [[nodiscard]] uint32_t life() const { return life_; }
  /// Does nothing until then.
  void stall(base::TimeNs until) { stalled_until_ = until; }
  [[nodiscard]] bool stalled() const;

  // Objects. -------------------------------------------------------------------------------------
  /// A CQ of its own for a connection; the index.
  uint32_t create_cq(uint32_t depth, bool may_overrun);
  void destroy_cq(uint32_t index);
  std::unique_ptr<Endpoint> create_endpoint(const EndpointOptions& options);
  void destroy_endpoint(Endpoint& endpoint);
  /// The bytes from `address` on as a region of their own. Null key: refused.
  base::MemoryKey register_region(uint64_t address, uint64_t length, uint32_t access, bool copied);

  // Work. ----------------------------------------------------------------------------------------
  /// False when the ring is full, and then nothing has happened.
  bool post_send(Endpoint& endpoint, const SendOrder& order, SendRecord record);
  void post_receive(Endpoint& endpoint, ReceiveRecord record);
  [[nodiscard]] std::optional<ReceiveRecord> new_receive(uint32_t capacity, uint32_t sges_max);
  /// Writes 64 random bytes where a submission entry may be expected, and others that look like
  /// one.
  void post_garbage(Random& random);

  /// What engines have published since, told to the oracle.
  void observe();
  /// Completions may be waiting: polls a little later.
  void wake();
  void on_event(uint64_t what, base::TimeNs now) override;

  [[nodiscard]] Host& host() const { return host_; }
  [[nodiscard]] const std::shared_ptr<Arena>& arena() const { return arena_; }
  [[nodiscard]] base::ContextId context() const { return context_; }
  [[nodiscard]] base::PdId pd() const { return pd_; }
  /// Keys of all its memory: reached in place, and by copying.
  [[nodiscard]] base::MemoryKey any_key(Random& random) const {
    return random.chance(0.5) ? key_ : copied_key_;
  }
  /// Remote reading of all its memory, nothing else.
  [[nodiscard]] base::MemoryKey read_key() const { return read_key_; }
  [[nodiscard]] Counter& counter(bool swaps) const { return *counters_[swaps ? 1 : 0]; }
  static constexpr uint32_t kSharedReceiveBytes = 8192;

  bool completion_event(base::ChannelId, uint64_t) noexcept override { return true; }
  bool async_event(uint64_t cookie, base::AsyncEvent event) noexcept override;
  // It reads events as they come.
  uint32_t withdraw_completion_events(base::ChannelId, uint64_t) noexcept override { return 0; }
  uint32_t withdraw_async_events(uint64_t) noexcept override { return 0; }

 private:
  struct Cq {
    Cq(uint32_t entries, bool overruns)
        : ring(pipe::completion_ring_bytes(entries)),
          depth(entries),
          may_overrun(overruns),
          consumer(ring.data(), entries),
          observer(ring.data(), entries) {}
    RingMemory ring;
    uint32_t depth;
    bool may_overrun;
    bool destroyed = false;
    base::CqId id;
    pipe::CompletionConsumer consumer;
    pipe::CompletionConsumer observer;  ///< of the oracle; gives nothing back
  };

  void poll();
  void handle(const pipe::CompletionEntry& entry);
  void replenish_shared();
  void kick_receives(Endpoint& endpoint);
  void create_objects();
  void fail_users_of(uint32_t cq);

  Host& host_;
  uint32_t number_;
  Random random_;
  bool alive_ = false;
  uint32_t life_ = 0;
  base::TimeNs stalled_until_ = 0;
  bool poll_pending_ = false;

  std::shared_ptr<Arena> arena_;
  std::vector<std::shared_ptr<Arena>> buried_;  ///< of former lives
  std::unique_ptr<RingMemory> submission_;
  pipe::SubmissionProducer producer_;
  base::ContextId context_;
  base::PdId pd_;
  std::vector<std::unique_ptr<Cq>> cqs_;
  base::MemoryKey key_, copied_key_, read_key_;
  std::vector<base::MemoryKey> keys_;
  std::vector<Counter*> counters_;

  std::unique_ptr<RingMemory> srq_ring_;
  pipe::ReceiveProducer srq_;
  SrqLedger* srq_ledger_ = nullptr;
  base::Srqn srqn_;

  std::map<uint32_t, Endpoint*> endpoints_;  ///< by QPN; those that exist
  std::map<uint32_t, QpLedger*> ledgers_;    ///< by QPN; gone ones too
  uint64_t next_wr_id_ = 1;
};

}  // namespace flexins::sim
