#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memory/region.h"
#include "transport/qp.h"
#include "transport/rnr_timer.h"

/// Two QPs face to face over a link in memory, without thread, socket or clock.

namespace flexins::transport::test {

/// A small deterministic generator.
class TestRandom final : public base::RandomSource {
 public:
  explicit TestRandom(uint64_t seed) : state_(seed) {}
  uint64_t next() noexcept override;
  uint64_t below(uint64_t limit) { return next() % limit; }
  bool chance(uint32_t per_mille) { return below(1000) < per_mille; }

 private:
  uint64_t state_;
};

/// A window onto this process's own memory. It can be told to claim that nothing is mapped, to
/// break into short extents, that its memory has gone, or (unmapped) that it does not answer at
/// present.
class TestWindow final : public memory::Window {
 public:
  memory::Extent resolve(uint64_t address, uint64_t length) noexcept override;
  memory::AccessResult read(uint64_t address, std::span<std::byte> out) noexcept override;
  memory::AccessResult write(uint64_t address, std::span<const std::byte> in) noexcept override;
  [[nodiscard]] memory::WindowKind kind() const noexcept override {
    return memory::WindowKind::kDirect;
  }
  [[nodiscard]] bool needs_guard() const noexcept override { return false; }

  bool unmapped = false;
  bool gone = false;
  uint64_t extent_bytes = UINT64_MAX;
  uint32_t answered = 0;  ///< accesses that are served before the busy ones
  uint32_t busy = 0;      ///< accesses from then on that are told to come later
  uint32_t refused = 0;   ///< accesses that were told so

 private:
  bool is_busy() {
    if (busy == 0) return false;
    if (answered > 0) {
      --answered;
      return false;
    }
    --busy;
    ++refused;
    return true;
  }
};

/// Registered memory of a host.
struct Buffer {
  std::unique_ptr<std::byte[]> bytes;
  size_t length = 0;
  uint32_t key = 0;
  TestWindow* window = nullptr;

  [[nodiscard]] uint64_t address(size_t offset = 0) const {
    return reinterpret_cast<uint64_t>(bytes.get()) + offset;
  }
  [[nodiscard]] base::Sge sge(size_t offset, size_t count) const {
    return {address(offset), static_cast<uint32_t>(count), key};
  }
  void fill(uint64_t seed);
};

inline constexpr uint32_t kAllAccess = base::kAccessLocalWrite | base::kAccessRemoteWrite |
                                       base::kAccessRemoteRead | base::kAccessRemoteAtomic;

class TestSink final : public CompletionSink {
 public:
  void complete(const Completion& completion) noexcept override;
  std::vector<Completion> all;
};

class TestReceives final : public ReceiveSource {
 public:
  bool take(ReceiveWqe& out) noexcept override;
  void post(uint64_t wr_id, const std::vector<base::Sge>& sges);
  std::deque<ReceiveWqe> posted;
};

/// SRQs by number, as an XRC target finds them.
class TestDomain final : public ReceiveQueues {
 public:
  bool find(uint32_t srqn, ReceiveQueue& out) noexcept override;
  std::map<uint32_t, ReceiveQueue> queues;
};

class TestObserver final : public QpObserver {
 public:
  void on_async_event(base::Qpn qpn, base::AsyncEvent event) noexcept override;
  std::vector<base::AsyncEvent> events;
};

/// A work request in the making: SGEs and inline bytes live as long as it does.
struct Request {
  SendWqe wqe;
  std::vector<base::Sge> sges;
  std::vector<std::byte> inline_bytes;
};
Request make_request(base::WrOpcode opcode, uint64_t wr_id, std::vector<base::Sge> sges,
                     uint64_t remote_address = 0, uint32_t remote_key = 0);

/// What connects the QPs by default; tests change it before connect().
struct Options {
  uint8_t path_mtu = 3;  ///< 1024 bytes
  uint32_t psn[2] = {100, 0x800000};
  uint8_t timeout = 14;
  uint8_t retry_count = 7;
  uint8_t rnr_retry = 7;
  uint8_t min_rnr_timer = 12;
  uint8_t max_rd_atomic = 16;
  uint8_t max_dest_rd_atomic = 16;
  uint32_t access_flags = kAllAccess;
  uint32_t max_send_wr = 64;
  uint32_t max_send_sge = 32;
  uint32_t max_inline_bytes = 512;
  uint32_t read_chunk_bytes = 64 * 1024;
  uint64_t window_bytes = 128 * 1024;
  bool signal_all = false;
  bool shared_receives = false;
  /// Of both QPs; kXrcSend: of host 0, and host 1 has the target.
  base::QpType type = base::QpType::kReliable;
};

struct Host {
  explicit Host(uint64_t seed) : random(seed), regions(random) {}
  Buffer& allocate(size_t length, uint32_t access = kAllAccess, base::PdId pd = {1});

  TestRandom random;
  memory::RegionTable regions;
  TestSink sends;
  TestSink receives_done;
  TestReceives receives;
  TestDomain domain;
  TestObserver observer;
  PeerWindow window;
  wire::Path path;
  std::deque<Buffer> buffers;
  std::unique_ptr<Qp> qp;
};

/// A packet on the link, headers parsed already.
struct Packet {
  int from = 0;
  wire::Headers headers;
  std::vector<std::byte> payload;
};

class Harness {
 public:
  explicit Harness(const Options& options = {}, uint64_t seed = 1);
  ~Harness();

  void connect();
  void to_init(int host);
  void to_rtr(int host);
  void to_rts(int host);
  [[nodiscard]] base::QpAttributes attributes(int host) const;
  [[nodiscard]] base::QpType type(int host) const;
  base::Result<void> modify(int host, base::QpState state, uint32_t mask = 0);

  [[nodiscard]] bool post(int host, const Request& request);
  /// One packet out of a QP, or none.
  /// With `leaves` the port says at once that it has left.
  [[nodiscard]] std::optional<Packet> pull(int host, TxStatus* status = nullptr,
                                           bool leaves = true);
  void deliver(const Packet& packet);
  /// Pulls all that both QPs have onto the link.
  bool collect();
  /// Delivers all that is on the link. What deliveries provoke is not pulled.
  bool carry();
  /// Collects and carries until both are quiet; time stands still.
  void settle();
  /// Lets time pass, deadline by deadline, until nothing is left to do or `until` is reached.
  void run(base::TimeNs until = base::kNever);
  /// Advances to the next deadline and serves it. False when there is none.
  bool step_time();

  Options options;
  TestRandom random;
  Host hosts[2];
  base::TimeNs now = 1'000'000;
  std::deque<Packet> link;
  /// Asked for each packet collected: how many copies of it arrive (0: lost).
  std::function<int(Packet&)> fate;
  uint32_t reorder_per_mille = 0;
  uint64_t packets_pulled = 0;
  /// Counts of collected packets per sender and opcode.
  uint64_t sent(int host, wire::Opcode opcode) const;

 private:
  void put_on_link(Packet packet);

  std::vector<std::byte> staging_;
  uint64_t forbidden_before_;
  uint64_t sent_[2][256] = {};
};

}  // namespace flexins::transport::test
