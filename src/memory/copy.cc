#include <atomic>
#include <cstdint>
#include <cstring>

#include "memory/window.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

/// How a poller of the last byte is served. memcpy stores in an order of its own (glibc stores the
/// first vector last, "rep movs" in any order), and streaming stores need a fence.
///   x86-64: stores become visible in program order, so an upward loop of ordinary vector stores is
///   all; at 16 bytes a store it keeps up with memcpy in every cache level (measured).
///   Elsewhere memcpy copies the bulk and the release store of the tail orders it.

namespace flexins::memory {
namespace {

constexpr uintptr_t kWord = 8;

template <typename T>
void store_release(std::byte* to, const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  __atomic_store_n(reinterpret_cast<T*>(to), value, __ATOMIC_RELEASE);
}

/// Less than a word that lies within one aligned word: naturally aligned pieces, upwards.
void copy_part(std::byte* to, const std::byte* from, size_t length) noexcept {
  while (length > 0) {
    const auto at = reinterpret_cast<uintptr_t>(to);
    size_t step = 1;
    if (at % 4 == 0 && length >= 4) {
      store_release<uint32_t>(to, from);
      step = 4;
    } else if (at % 2 == 0 && length >= 2) {
      store_release<uint16_t>(to, from);
      step = 2;
    } else {
      store_release<uint8_t>(to, from);
    }
    to += step;
    from += step;
    length -= step;
  }
}

/// `to` is word-aligned, `length` a multiple of a word: no vector store splits an aligned word.
void copy_bulk(std::byte* to, const std::byte* from, size_t length) noexcept {
#if defined(__x86_64__)
  constexpr size_t kBlock = 64;
  for (; length >= kBlock; to += kBlock, from += kBlock, length -= kBlock) {
    const auto* in = reinterpret_cast<const __m128i_u*>(from);
    auto* out = reinterpret_cast<__m128i_u*>(to);
    const __m128i first = _mm_loadu_si128(in);
    const __m128i second = _mm_loadu_si128(in + 1);
    const __m128i third = _mm_loadu_si128(in + 2);
    const __m128i fourth = _mm_loadu_si128(in + 3);
    _mm_storeu_si128(out, first);
    _mm_storeu_si128(out + 1, second);
    _mm_storeu_si128(out + 2, third);
    _mm_storeu_si128(out + 3, fourth);
    std::atomic_signal_fence(std::memory_order_seq_cst);  // the compiler keeps the order too
  }
  for (; length > 0; to += kWord, from += kWord, length -= kWord) store_release<uint64_t>(to, from);
#else
  std::memcpy(to, from, length);
#endif
}

}  // namespace

void copy_tail_last(std::byte* to, const std::byte* from, size_t length) noexcept {
  const size_t head = (kWord - reinterpret_cast<uintptr_t>(to) % kWord) % kWord;
  if (head != 0) {
    const size_t part = head < length ? head : length;
    copy_part(to, from, part);
    to += part;
    from += part;
    length -= part;
  }
  if (length == 0) return;
  const size_t bulk = (length - 1) / kWord * kWord;
  if (bulk != 0) copy_bulk(to, from, bulk);
  if (length - bulk == kWord) {
    store_release<uint64_t>(to + bulk, from + bulk);
  } else {
    copy_part(to + bulk, from + bulk, length - bulk);
  }
}

}  // namespace flexins::memory
