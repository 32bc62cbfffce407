#pragma once

#include <memory>
#include <vector>

#include "cm/manager.h"
#include "sim/application.h"
#include "sim/host.h"

namespace flexins::sim {

/// Whether new work may begin, and how much has.
struct Pace {
  bool active = true;
  uint64_t operations = 0;
  uint64_t operations_max = UINT64_MAX;
  [[nodiscard]] bool more() const { return active && operations < operations_max; }
};

/// Two applications that talk over a pair of QPs: connect, work, come to an end or to grief, and
/// begin anew. All that it does is drawn from its own generator.
class Connection final : public Actor {
 public:
  Connection(Surroundings& around, Pace& pace, Application& a, Application& b, uint32_t number,
             Random random);
  ~Connection() override;

  void on_event(uint64_t what, base::TimeNs now) override;
  void on_cm_event(Host& host, const cm::Event& event);

  /// Whether that is its connection at the host's manager.
  [[nodiscard]] bool knows(const Host& host, cm::ConnectionId id) const;
  /// All that was asked for is done, and nothing is left.
  [[nodiscard]] bool closed() const { return state_ == State::kClosed; }
  [[nodiscard]] std::string describe() const;
  /// How often a pair of QPs was connected.
  [[nodiscard]] uint64_t opened() const { return opened_; }

 private:
  enum class State : uint8_t { kClosed, kConnecting, kOpen, kDraining, kFailing };

  /// What a pair of QPs is made with; drawn anew each time.
  struct Terms {
    base::QpType type = base::QpType::kReliable;
    bool v6 = false;
    bool by_cm = false;
    uint8_t path_mtu = 3;
    uint8_t timeout = 14;
    uint8_t retry_count = 7;
    uint8_t rnr_retry = 7;
    uint8_t min_rnr_timer = 12;
    uint8_t rd_atomic = 4;
    uint8_t traffic_class = 0;
    uint32_t psn[2] = {0, 0};
    uint32_t qkey = 0;
    uint32_t message_bytes_max = 4096;
    EndpointOptions options[2];
    uint32_t signal_period = 1;
    bool starves = false;
    double illegal = 0;  ///< part of the operations that must be refused
    bool leases = false;
  };
  /// A memory registration that comes and goes, with what it holds.
  struct Registration {
    base::MemoryKey key;
    uint64_t address = 0;
    uint32_t length = 0;
    std::vector<Content> content;  ///< of a source
    bool used = false;
    std::shared_ptr<Lease> lease = std::make_shared<Lease>();
  };
  /// A memory window of type 2 over a registration.
  struct Window {
    enum class Stage : uint8_t { kNone, kBinding, kBound, kInvalidating, kInvalid };
    Stage stage = Stage::kNone;
    base::MemoryKey key;  ///< of the window when it was allocated
    uint32_t bound_key = 0;
    uint64_t wr_id = 0;
    bool used = false;
    std::shared_ptr<Lease> lease;
  };
  struct Side final : CompletionHandler {
    Application* application = nullptr;
    std::unique_ptr<Endpoint> endpoint;
    base::AhId ah;
    bool has_ah = false;
    uint32_t own_cq = 0;
    cm::ConnectionId cm_id;
    bool has_cm_id = false;
    bool failed_on_purpose = false;
    std::vector<Registration> sources;
    std::vector<Registration> targets;
    Window window;  ///< onto targets[0]
    void on_completion(const pipe::CompletionEntry& entry) override;
    [[nodiscard]] bool usable() const { return endpoint != nullptr && endpoint->usable(); }
    [[nodiscard]] bool ready() const { return usable() && !application->stalled(); }
  };

  // connection.cc: life.
  void draw_terms();
  void open();
  void create(Side& side, int index);
  void connect_directly();
  void modify_to_ready(Side& side, uint32_t rq_psn, uint32_t sq_psn, uint32_t peer_qpn,
                       const Application& peer);
  void come_up();
  void work();
  [[nodiscard]] bool in_trouble() const;
  void begin_failing();
  void fail(Side& side);
  void finish();
  void destroy(Side& side);

  // connection_cm.cc
  void connect_by_cm();
  void on_request(Host& host, const cm::Event& event);
  void on_reply();
  void disconnect(Side& side);

  // connection_leases.cc
  void churn_leases(Side& side);
  void take_registration(Side& side, bool source);
  void revoke(Side& side, Registration& registration);
  void give_back_leases(Side& side);
  void advance_window(Side& owner, Side& peer);

  // connection_post.cc
  /// False when there is no memory for a single one.
  bool post_receives(Side& side);
  bool post_one(Side& side, Side& peer);
  struct Draft {
    SendOrder order;
    SendRecord record;
  };
  [[nodiscard]] base::WrOpcode draw_opcode();
  [[nodiscard]] uint32_t draw_length();
  void draw_content(Side& side, uint32_t length, Draft& draft);
  void address_datagram(Side& side, Draft& draft);
  [[nodiscard]] bool fill_send(Side& side, Draft& draft);
  [[nodiscard]] bool fill_write(Side& side, Side& peer, Draft& draft);
  [[nodiscard]] bool fill_read(Side& side, Side& peer, Draft& draft);
  [[nodiscard]] bool fill_atomic(Side& side, Side& peer, Draft& draft);
  void spoil(Side& side, Side& peer, Draft& draft);
  void use_leases(Side& side, Side& peer, Draft& draft);
  void finish_flags(Side& side, Draft& draft);
  bool submit(Side& side, Draft& draft);
  void post_last(Side& side);

  Side& other(const Side& side) { return &side == &sides_[0] ? sides_[1] : sides_[0]; }
  [[nodiscard]] Host& host(const Side& side) { return side.application->host(); }

  Surroundings& around_;
  Pace& pace_;
  uint32_t number_;
  Random random_;
  State state_ = State::kClosed;
  Terms terms_;
  Side sides_[2];
  base::TimeNs state_since_ = 0;
  uint64_t opened_ = 0;
  bool ticking_ = false;
};

}  // namespace flexins::sim
