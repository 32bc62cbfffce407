#include "port/shm_port.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace flexins::port {

namespace {

/// The kernel is asked for packets this often at most while there are ways that need no asking.
constexpr base::TimeNs kInnerPeriod = 5 * base::kMicrosecond;

}  // namespace

base::Result<void> ShmPort::add(const ShmWay& way) {
  for (const auto& other : ways_) {
    if (other->terms.local == way.local && other->terms.remote == way.remote) {
      return base::Error{EEXIST, "there is a way between these addresses"};
    }
  }
  if (ways_.size() == kWaysMax) return base::Error{ENOSPC, "too many neighbours"};
  ways_.push_back(std::make_unique<Way>(way));
  return {};
}

void ShmPort::remove(const wire::IpAddress& local, const wire::IpAddress& remote) {
  std::erase_if(ways_, [&](const auto& way) {
    return way->terms.local == local && way->terms.remote == remote;
  });
}

void ShmPort::observe_drops(DropObserver* observer) {
  observer_ = observer;
  inner_.observe_drops(observer);
}

ShmPort::Way* ShmPort::find(const wire::Path& path) noexcept {
  for (const auto& way : ways_) {
    if (way->terms.remote == path.destination && way->terms.local == path.source) {
      return way->broken() ? nullptr : way.get();
    }
  }
  return nullptr;
}

size_t ShmPort::transmit(std::span<wire::TxPacket> burst, base::TimeNs now) noexcept {
  if (ways_.empty()) return inner_.transmit(burst, now);
  size_t taken = 0;
  while (taken < burst.size()) {
    // Packets of a train share their path, so a run is mostly all of the burst.
    Way* way = find(*burst[taken].path);
    const wire::Path* path = burst[taken].path;
    size_t end = taken + 1;
    while (end < burst.size() && (burst[end].path == path || find(*burst[end].path) == way)) ++end;
    const auto run = burst.subspan(taken, end - taken);
    const size_t sent = way != nullptr ? send(*way, run, now) : inner_.transmit(run, now);
    taken += sent;
    if (sent < run.size()) break;
  }
  return taken;
}

void ShmPort::drop(const wire::TxPacket& packet, uint64_t& count, std::string_view reason,
                   base::TimeNs now) noexcept {
  ++count;
  if (observer_ != nullptr) observer_->transmit_dropped(packet, reason, now);
}

size_t ShmPort::send(Way& way, std::span<wire::TxPacket> run, base::TimeNs now) noexcept {
  size_t taken = 0;
  for (const wire::TxPacket& packet : run) {
    if (packet.corrupt) {
      drop(packet, corrupt_, "icrc wrong", now);
      ++taken;
      continue;
    }
    const ShmSender::Written written = way.sender.write(packet);
    if (written == ShmSender::Written::kFull) {
      ++full_;
      break;
    }
    ++taken;
    switch (written) {
      case ShmSender::Written::kDone:
        ++packets_sent_;
        bytes_sent_ += packet.payload_length;
        break;
      case ShmSender::Written::kMemoryGone: drop(packet, memory_gone_, "memory gone", now); break;
      default: drop(packet, broken_, "neighbour's ring is broken", now); break;
    }
  }
  if (way.sender.publish()) {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t told = ::write(way.terms.wake_fd, &one, sizeof one);
    ++wakeups_;
  }
  return taken;
}

size_t ShmPort::receive_from_ways(std::span<wire::RxPacket> burst) noexcept {
  size_t count = 0;
  for (size_t looked_at = 0; looked_at < ways_.size(); ++looked_at) {
    if (next_way_ >= ways_.size()) next_way_ = 0;
    Way& way = *ways_[next_way_++];
    // Even with no room left: what the last call handed out is given back.
    const size_t got = way.receiver.receive(burst.subspan(count));
    for (wire::RxPacket& packet : burst.subspan(count, got)) {
      packet.source = way.terms.remote;
      packet.destination = way.terms.local;
      if (packet.piece_count > 0) bytes_received_ += packet.pieces[0].iov_len;
    }
    count += got;
  }
  packets_received_ += count;
  return count;
}

size_t ShmPort::receive(std::span<wire::RxPacket> burst, base::TimeNs now) noexcept {
  if (ways_.empty()) return inner_.receive(burst, now);
  const size_t count = receive_from_ways(burst);
  // Asking the kernel costs more than a packet through memory does. Before it sleeps an engine
  // waits for the inner port's descriptors, so what is not asked for now is not forgotten.
  if (count == burst.size() || now < inner_due_) return count;
  const size_t more = inner_.receive(burst.subspan(count), now);
  inner_due_ = more > 0 ? now : now + kInnerPeriod;
  return count + more;
}

std::vector<Counter> ShmPort::counters() const {
  std::vector<Counter> all = inner_.counters();
  const auto broken = static_cast<uint64_t>(
      std::count_if(ways_.begin(), ways_.end(), [](const auto& way) { return way->broken(); }));
  for (const Counter& own : {Counter{"shm_ways", ways_.size()},
                             {"shm_packets_sent", packets_sent_},
                             {"shm_payload_bytes_sent", bytes_sent_},
                             {"shm_packets_received", packets_received_},
                             {"shm_payload_bytes_received", bytes_received_},
                             {"shm_wakeups", wakeups_},
                             {"shm_full", full_},
                             {"shm_corrupt", corrupt_},
                             {"shm_memory_gone", memory_gone_},
                             {"shm_dropped_broken", broken_},
                             {"shm_broken_ways", broken}}) {
    all.push_back(own);
  }
  return all;
}

}  // namespace flexins::port
