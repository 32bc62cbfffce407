#include "daemon/cm_bridge.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace flexins::daemon {

CmBridge::CmBridge()
    : event_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), ring_(std::make_unique<Mad[]>(kDepth)) {
  if (!event_.valid()) throw std::system_error(errno, std::generic_category(), "eventfd");
}

bool CmBridge::on_mad(const wire::IpAddress& source, const wire::IpAddress& destination,
                      std::span<const std::byte> mad) noexcept {
  const uint32_t written = written_.load(std::memory_order_relaxed);
  if (written - read_.load(std::memory_order_acquire) == kDepth) return false;
  Mad& slot = ring_[written % kDepth];
  slot.source = source;
  slot.destination = destination;
  std::copy(mad.begin(), mad.end(), slot.bytes.begin());
  written_.store(written + 1, std::memory_order_release);
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t told = ::write(event_.get(), &one, sizeof one);
  return true;
}

bool CmBridge::take(Mad& out) noexcept {
  const uint32_t read = read_.load(std::memory_order_relaxed);
  if (read == written_.load(std::memory_order_acquire)) return false;
  out = ring_[read % kDepth];
  read_.store(read + 1, std::memory_order_release);
  return true;
}

void CmBridge::clear() noexcept {
  uint64_t count = 0;
  [[maybe_unused]] const ssize_t got = ::read(event_.get(), &count, sizeof count);
}

}  // namespace flexins::daemon
