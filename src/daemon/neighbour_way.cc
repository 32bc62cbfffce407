#include "daemon/neighbour_way.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include <fmt/format.h>

namespace flexins::daemon {

namespace {

constexpr size_t kBytes = 2 * sizeof(port::ShmRingLayout);
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW;

base::Error failed(const char* what) {
  return base::Error{errno, std::string(what) + ": " + std::strerror(errno)};
}

bool is_eventfd(int fd) {
  char target[64];
  const std::string link = fmt::format("/proc/self/fd/{}", fd);
  const ssize_t length = ::readlink(link.c_str(), target, sizeof target);
  return length > 0 &&
         std::string_view(target, static_cast<size_t>(length)) == "anon_inode:[eventfd]";
}

}  // namespace

void NeighbourWay::close() {
  if (rings_ != nullptr) ::munmap(rings_, kBytes);
  rings_ = nullptr;
  made_here_ = false;
  our_wake_.reset();
  their_wake_.reset();
}

base::Result<void> NeighbourWay::map(int fd) {
  void* at = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED) return failed("mapping a neighbour's rings");
  rings_ = static_cast<port::ShmRingLayout*>(at);
  return {};
}

base::Result<void> NeighbourWay::make_wake_fd(std::vector<base::UniqueFd>& out) {
  our_wake_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  base::UniqueFd copy(::fcntl(our_wake_.get(), F_DUPFD_CLOEXEC, 0));
  if (!our_wake_.valid() || !copy.valid()) return failed("eventfd");
  out.push_back(std::move(copy));
  return {};
}

base::Result<void> NeighbourWay::take_wake_fd(base::UniqueFd fd) {
  // The worker writes to it, so it must be of the kind whose writes do not wait.
  if (!is_eventfd(fd.get())) return base::Error{EINVAL, "a neighbour's eventfd is none"};
  if (::fcntl(fd.get(), F_SETFL, O_NONBLOCK) != 0) return failed("fcntl");
  their_wake_ = std::move(fd);
  return {};
}

base::Result<void> NeighbourWay::make(std::vector<base::UniqueFd>& out) {
  base::UniqueFd memory(::memfd_create("flexins-neighbour", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory.valid() || ::ftruncate(memory.get(), kBytes) != 0 ||
      ::fcntl(memory.get(), F_ADD_SEALS, kSeals | F_SEAL_SEAL) != 0) {
    return failed("memory for a neighbour");
  }
  if (auto mapped = map(memory.get()); !mapped) return mapped;
  made_here_ = true;
  out.push_back(std::move(memory));
  return make_wake_fd(out);
}

base::Result<void> NeighbourWay::take(std::vector<base::UniqueFd> in,
                                      std::vector<base::UniqueFd>& out) {
  if (in.size() != 2) return base::Error{EINVAL, "an offer without memory and eventfd"};
  struct stat facts {};
  const int seals = ::fcntl(in[0].get(), F_GET_SEALS);
  if (::fstat(in[0].get(), &facts) != 0 || facts.st_size != static_cast<off_t>(kBytes) ||
      seals < 0 || (seals & kSeals) != kSeals) {
    return base::Error{EINVAL, "a neighbour's memory is not sealed, or not of the size agreed on"};
  }
  if (auto taken = take_wake_fd(std::move(in[1])); !taken) return taken;
  if (auto mapped = map(in[0].get()); !mapped) return mapped;
  return make_wake_fd(out);
}

base::Result<void> NeighbourWay::finish(std::vector<base::UniqueFd> in) {
  if (in.size() != 1) return base::Error{EINVAL, "an acceptance without an eventfd"};
  return take_wake_fd(std::move(in[0]));
}

base::Result<void> NeighbourWay::open(WorkerThread& worker, port::ShmPort& port,
                                      const wire::IpAddress& local, const wire::IpAddress& remote) {
  port::ShmWay way;
  way.local = local;
  way.remote = remote;
  way.outgoing = &rings_[made_here_ ? 0 : 1];
  way.incoming = &rings_[made_here_ ? 1 : 0];
  way.wake_fd = their_wake_.get();
  if (auto added = port.add(way); !added) return added;
  auto woken = worker.add_sleeper(way.incoming->need_wakeup, our_wake_.get());
  if (!woken) port.remove(local, remote);
  return woken;
}

void NeighbourWay::shut(WorkerThread& worker, port::ShmPort& port, const wire::IpAddress& local,
                        const wire::IpAddress& remote) {
  port.remove(local, remote);
  worker.remove_sleeper(rings_[made_here_ ? 1 : 0].need_wakeup, our_wake_.get());
}

}  // namespace flexins::daemon
