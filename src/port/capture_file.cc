#include "port/capture_file.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace flexins::port {

namespace {

/// How long the writer sleeps when there is nothing to write. The ring fills in that time only
/// beyond 4 GB/s.
constexpr std::chrono::milliseconds kNap{2};

}  // namespace

base::Result<std::unique_ptr<CaptureFile>> CaptureFile::create(const std::string& path) {
  base::UniqueFd fd(
      open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd.valid()) {
    const int code = errno;
    return base::Error{code, "cannot write the capture file " + path + ": " + strerror(code)};
  }
  return std::unique_ptr<CaptureFile>(new CaptureFile(std::move(fd)));
}

CaptureFile::CaptureFile(base::UniqueFd fd) : fd_(std::move(fd)), ring_(new std::byte[kRingBytes]) {
  // The process's signals are for its own threads.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  writer_ = std::thread([this] { run(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

CaptureFile::~CaptureFile() { finish(); }

int CaptureFile::finish() noexcept {
  if (writer_.joinable()) {
    stopping_.store(true, std::memory_order_release);
    writer_.join();
  }
  return error();
}

bool CaptureFile::append(std::span<const std::byte> bytes) noexcept {
  const uint64_t at = appended_.load(std::memory_order_relaxed);
  const uint64_t used = at - written_.load(std::memory_order_acquire);
  if (bytes.size() > kRingBytes - used || error() != 0) return false;
  const size_t offset = at % kRingBytes;
  const size_t first = std::min(bytes.size(), kRingBytes - offset);
  std::memcpy(ring_.get() + offset, bytes.data(), first);
  std::memcpy(ring_.get(), bytes.data() + first, bytes.size() - first);
  appended_.store(at + bytes.size(), std::memory_order_release);
  return true;
}

void CaptureFile::run() noexcept {
  while (true) {
    // Asked before the ring is looked at: nothing is appended after it was set.
    const bool last = stopping_.load(std::memory_order_acquire);
    if (drain()) continue;
    if (last) return;
    std::this_thread::sleep_for(kNap);
  }
}

bool CaptureFile::drain() noexcept {
  const uint64_t at = written_.load(std::memory_order_relaxed);
  const uint64_t filled = appended_.load(std::memory_order_acquire) - at;
  if (filled == 0) return false;
  const size_t offset = at % kRingBytes;
  const size_t length = std::min<uint64_t>(filled, kRingBytes - offset);
  ssize_t written = static_cast<ssize_t>(length);
  if (error() == 0) written = write(fd_.get(), ring_.get() + offset, length);
  if (written < 0) {
    if (errno != EINTR) error_.store(errno, std::memory_order_release);
    return true;
  }
  written_.store(at + static_cast<uint64_t>(written), std::memory_order_release);
  return true;
}

}  // namespace flexins::port
