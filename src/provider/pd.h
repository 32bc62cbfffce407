#pragma once

#include <atomic>
#include <memory>

#include "provider/abi.h"
#include "provider/context.h"

/// Protection domains and what libibverbs makes of them: thread domains and parent domains.

namespace flexins::provider {

/// A thread domain: the program promises that one thread at a time uses what is made in it, so its
/// QPs have a submission ring of their own and take no lock. Where all rings are given out it
/// shares one with others, and the lock stays.
struct Td {
  ibv_td face{};  ///< first: libibverbs' pointer is ours
  SubmissionRing* ring = nullptr;
  std::atomic<uint32_t> users{0};  ///< parent domains

  static Td& of(ibv_td* face) { return *reinterpret_cast<Td*>(face); }
};

struct Pd {
  ibv_pd face{};                   ///< first; a parent domain has the handle of its PD
  Pd* protection = nullptr;        ///< of a parent domain: the PD that it stands for
  std::atomic<uint32_t> users{0};  ///< parent domains over a PD, QPs in a parent domain
  bool imported = false;
  // Of a parent domain; may be null.
  Td* td = nullptr;
  void* (*allocate)(ibv_pd*, void*, size_t, size_t, uint64_t) = nullptr;
  void (*free)(ibv_pd*, void*, void*, uint64_t) = nullptr;
  void* allocator_context = nullptr;

  static Pd& of(ibv_pd* face) { return *reinterpret_cast<Pd*>(face); }
  [[nodiscard]] bool is_parent_domain() const { return protection != nullptr; }
  /// The ring for QPs made in this domain.
  [[nodiscard]] SubmissionRing& ring() {
    return td != nullptr ? *td->ring : Context::of(face.context).shared_ring();
  }
};

/// Memory from a parent domain's allocators where it has them and they want to, else from the heap.
/// Rings are the engine's memory; what a program can place is what the provider keeps of its own.
class DomainMemory {
 public:
  /// The resource_type that allocators are told: records of a send queue.
  static constexpr uint64_t kSendRecords = 1;

  DomainMemory() = default;
  DomainMemory(const DomainMemory&) = delete;
  DomainMemory& operator=(const DomainMemory&) = delete;
  ~DomainMemory() { release(); }

  /// `bytes` > 0. Null when there is no memory.
  [[nodiscard]] void* acquire(Pd& domain, size_t bytes, size_t alignment);

 private:
  void release();

  Pd* domain_ = nullptr;  ///< whose allocator gave `at_`; null: the heap
  void* at_ = nullptr;
};

ibv_pd* allocate_pd(ibv_context* context);
int free_pd(ibv_pd* pd);
ibv_td* allocate_td(ibv_context* context, ibv_td_init_attr* attributes);
int free_td(ibv_td* td);
ibv_pd* allocate_parent_domain(ibv_context* context, ibv_parent_domain_init_attr* attributes);
/// `handle`: of a PD of the context that `context` was imported from.
ibv_pd* import_pd(ibv_context* context, uint32_t handle);
void unimport_pd(ibv_pd* pd);

}  // namespace flexins::provider
