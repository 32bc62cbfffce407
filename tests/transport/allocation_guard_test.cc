#include "allocation_guard.h"

#include <cstdlib>
#include <memory>
#include <new>

#include <gtest/gtest.h>

namespace {

int forbidden_depth = 0;
uint64_t forbidden_count = 0;

/// Not inlined: the compiler would see malloc behind new, and warn of what pairs with it.
[[gnu::noinline]] void* counted(size_t size) {
  if (forbidden_depth > 0) ++forbidden_count;
  return std::malloc(size == 0 ? 1 : size);
}

[[gnu::noinline]] void release(void* memory) { std::free(memory); }

}  // namespace

void* operator new(size_t size) {
  void* memory = counted(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
void* operator new[](size_t size) { return operator new(size); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return counted(size); }
void operator delete(void* memory) noexcept { release(memory); }
void operator delete[](void* memory) noexcept { release(memory); }
void operator delete(void* memory, size_t) noexcept { release(memory); }
void operator delete[](void* memory, size_t) noexcept { release(memory); }

namespace flexins::transport::test {

ForbidAllocation::ForbidAllocation() { ++forbidden_depth; }
ForbidAllocation::~ForbidAllocation() { --forbidden_depth; }
AllowAllocation::AllowAllocation() : outer_(forbidden_depth) { forbidden_depth = 0; }
AllowAllocation::~AllowAllocation() { forbidden_depth = outer_; }
uint64_t forbidden_allocations() { return forbidden_count; }

TEST(AllocationGuard, CountsWhatIsForbiddenOnly) {
  const uint64_t before = forbidden_allocations();
  {
    const ForbidAllocation forbid;
    auto one = std::make_unique<int>(1);
    const AllowAllocation allow;
    auto two = std::make_unique<int>(*one);
    EXPECT_EQ(*two, 1);
  }
  EXPECT_EQ(forbidden_allocations() - before, 1u);
  forbidden_count = before;
}

}  // namespace flexins::transport::test
