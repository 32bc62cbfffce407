#include "daemon/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace flexins::daemon {

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      fd_(std::move(other.fd_)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  if (this != &other) {
    unmap();
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    fd_ = std::move(other.fd_);
  }
  return *this;
}

void SharedMemory::unmap() noexcept {
  if (data_ != nullptr) ::munmap(data_, bytes_);
  data_ = nullptr;
}

base::Result<SharedMemory> SharedMemory::create(const char* name, size_t bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  SharedMemory memory;
  memory.bytes_ = (bytes + page - 1) / page * page;
  memory.fd_.reset(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  const auto failed = [&](const char* what) {
    return base::Error{ENOMEM, std::string(name) + ": " + what + ": " + std::strerror(errno)};
  };
  if (!memory.fd_.valid()) return failed("memfd_create");
  if (::ftruncate(memory.fd_.get(), static_cast<off_t>(memory.bytes_)) != 0) {
    return failed("ftruncate");
  }
  if (::fcntl(memory.fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return failed("sealing");
  }
  void* at =
      ::mmap(nullptr, memory.bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd_.get(), 0);
  if (at == MAP_FAILED) return failed("mmap");
  memory.data_ = static_cast<std::byte*>(at);
  return memory;
}

}  // namespace flexins::daemon
