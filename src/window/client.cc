#include "window/client.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <new>
#include <string_view>

#include "window/local_client.h"
#include "window/page_mover.h"
#include "window/shared_object.h"

namespace flexins::window {
namespace {

/// Set once; never destroyed, since other threads may use it while the process ends.
std::atomic<LocalClient*> the_client{nullptr};

base::Error not_reachable(const char* why) { return base::Error{EFAULT, why}; }

/// What ibv_reg_mr asks of the memory.
base::Result<void> check_mapped(std::span<const Mapping> mappings, uint64_t begin, uint64_t end,
                                bool need_write) {
  uint64_t at = begin;
  for (const Mapping& mapping : mappings_within(mappings, begin, end)) {
    if (mapping.begin > at) break;
    if (!mapping.readable) return not_reachable("part of the memory must not be read");
    if (need_write && !mapping.writable) return not_reachable("part of the memory is read-only");
    at = mapping.end;
  }
  if (at < end) return not_reachable("part of the memory is not mapped");
  return {};
}

void append(std::vector<ClientSegment>& segments, const ClientSegment& next) {
  if (!segments.empty()) {
    ClientSegment& last = segments.back();
    if (last.fd == next.fd && last.address + last.length == next.address &&
        last.offset + last.length == next.offset && last.writable == next.writable) {
      last.length += next.length;
      return;
    }
  }
  segments.push_back(next);
}

template <typename Call>
void with_client(Call&& call) noexcept {
  LocalClient* client = the_client.load(std::memory_order_acquire);
  if (client == nullptr) return;
  try {
    call(*client);
  } catch (const std::bad_alloc&) {
    // Only tables are not up to date then; what they say is checked against /proc before use.
  }
}

}  // namespace

ClientSettings ClientSettings::from_environment() {
  ClientSettings settings;
  const char* adopt = std::getenv("FLEXINS_ADOPT");
  const char* only = std::getenv("FLEXINS_WINDOW");
  const std::string_view kind = only == nullptr ? "" : only;
  settings.adopted = adopt == nullptr || std::string_view(adopt) != "0";
  if (kind == "shared" || kind == "descriptor") settings.adopted = false;
  if (kind == "adopted" || kind == "descriptor") settings.shared = false;
  return settings;
}

base::Result<Preparation> LocalClient::prepare(uint64_t address, uint64_t length, bool need_write,
                                               bool on_demand) try {
  if (length > UINT64_MAX - address) return not_reachable("the range wraps around");
  const std::lock_guard lock(mutex_);
  Preparation preparation;
  Ticket ticket;
  if (length > 0 && !on_demand) {
    const uint64_t end = address + length;
    const std::vector<Mapping> mappings = read_mappings();
    // Where /proc is not mounted nothing can be checked nor offered.
    if (!mappings.empty()) {
      auto mapped = check_mapped(mappings, address, end, need_write);
      if (!mapped.ok()) return mapped.error();
    }
    if (settings_.shared) {
      offer_shared(mappings, address, end, need_write, ticket, preparation.segments);
    }
    if (settings_.adopted) {
      offer_adopted(mappings, address, end, ticket, preparation.segments);
    }
    std::sort(preparation.segments.begin(), preparation.segments.end(),
              [](const auto& a, const auto& b) { return a.address < b.address; });
  }
  preparation.ticket = ++last_ticket_;
  tickets_.emplace(preparation.ticket, std::move(ticket));
  return preparation;
} catch (const std::bad_alloc&) {
  return base::Error{ENOMEM, "no memory to prepare a registration"};
}

void LocalClient::offer_shared(std::span<const Mapping> mappings, uint64_t begin, uint64_t end,
                               bool need_write, Ticket& ticket,
                               std::vector<ClientSegment>& segments) {
  for (const Mapping& mapping : mappings_within(mappings, begin, end)) {
    if (adoption_.is_ours(mapping)) continue;
    auto object = find_shared_object(mapping);
    if (!object || (need_write && !object->writable)) continue;
    // Offsets in the object, widened to its pages, within the mapping and the object.
    const uint64_t page = object->page_bytes;
    const uint64_t first = mapping.offset + (std::max(begin, mapping.begin) - mapping.begin);
    const uint64_t last = mapping.offset + (std::min(end, mapping.end) - mapping.begin);
    const uint64_t from = first / page * page;
    const uint64_t to = std::min((last + page - 1) / page * page, object->size_bytes);
    if (from >= to || from < mapping.offset) continue;
    ClientSegment segment;
    segment.address = mapping.begin + (from - mapping.offset);
    segment.length = to - from;
    segment.fd = object->fd.get();
    segment.offset = from;
    segment.writable = object->writable && mapping.writable;
    ticket.objects.push_back(std::move(object->fd));
    append(segments, segment);
  }
}

void LocalClient::offer_adopted(std::span<const Mapping> mappings, uint64_t begin, uint64_t end,
                                Ticket& ticket, std::vector<ClientSegment>& segments) {
  ticket.shares = adoption_.acquire(mappings, begin, end);
  for (const RunTable::Share& share : ticket.shares) {
    ClientSegment segment;
    segment.address = share.begin;
    segment.length = share.end - share.begin;
    segment.fd = adoption_.fd();
    segment.offset = share.begin;
    segment.kind = memory::WindowKind::kAdopted;
    append(segments, segment);
  }
}

void LocalClient::release(uint64_t ticket) try {
  const std::lock_guard lock(mutex_);
  const auto found = tickets_.find(ticket);
  if (found == tickets_.end()) return;  // taken before a fork, by the parent
  const Ticket taken = std::move(found->second);
  tickets_.erase(found);
  adoption_.release(taken.shares);
} catch (const std::bad_alloc&) {
  // The pages stay adopted: the program's memory works as before.
}

int LocalClient::memory_descriptor() {
  const std::lock_guard lock(mutex_);
  if (memory_fd_.valid() && memory_pid_ == ::getpid()) return memory_fd_.get();
  memory_fd_.reset(::open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  memory_pid_ = ::getpid();
  return memory_fd_.get();
}

void LocalClient::note_unmapped(uint64_t address, uint64_t length) {
  const std::lock_guard lock(mutex_);
  adoption_.note_unmapped(address, address + length);
}

void LocalClient::note_dontneed(uint64_t address, uint64_t length) {
  const std::lock_guard lock(mutex_);
  adoption_.note_dontneed(address, address + length);
}

void LocalClient::leave_out_of_fork(bool out) {
  const std::lock_guard lock(mutex_);
  adoption_.leave_out_of_fork(out);
}

void LocalClient::before_fork() {
  mutex_.lock();
  adoption_.before_fork();
}

void LocalClient::after_fork_in_parent() {
  adoption_.after_fork_in_parent();
  mutex_.unlock();
}

void LocalClient::after_fork_in_child() {
  adoption_.after_fork_in_child();
  tickets_.clear();
  memory_fd_.reset();
  mutex_.unlock();
}

WindowClient& WindowClient::instance() {
  static LocalClient* const client = [] {
    auto* made = new LocalClient(ClientSettings::from_environment());
    the_client.store(made, std::memory_order_release);
    ::pthread_atfork([] { with_client([](LocalClient& c) { c.before_fork(); }); },
                     [] { with_client([](LocalClient& c) { c.after_fork_in_parent(); }); },
                     [] { with_client([](LocalClient& c) { c.after_fork_in_child(); }); });
    return made;
  }();
  return *client;
}

uint64_t page_move_count() noexcept { return moves_ended.load(std::memory_order_seq_cst); }

bool page_moves_since(uint64_t count) noexcept {
  const uint64_t begun = moves_begun.load(std::memory_order_seq_cst);
  if (begun == count) return false;
  // One chunk moves at a time, for milliseconds.
  while (moves_ended.load(std::memory_order_seq_cst) < begun) ::sched_yield();
  return true;
}

void note_unmapped(uint64_t address, uint64_t length) noexcept {
  with_client([&](LocalClient& client) { client.note_unmapped(address, length); });
}

void note_dontneed(uint64_t address, uint64_t length) noexcept {
  with_client([&](LocalClient& client) { client.note_dontneed(address, length); });
}

void before_bare_fork() noexcept {
  with_client([](LocalClient& client) { client.leave_out_of_fork(true); });
}

void after_bare_fork() noexcept {
  with_client([](LocalClient& client) { client.leave_out_of_fork(false); });
}

}  // namespace flexins::window
