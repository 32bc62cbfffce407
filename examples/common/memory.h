#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace example {

/// Where memory comes from: a provider may reach each kind in another way.
enum class Source : uint8_t { kMalloc, kAnonymousMapping, kSharedObject };
inline constexpr Source kSources[] = {Source::kMalloc, Source::kAnonymousMapping,
                                      Source::kSharedObject};
[[nodiscard]] std::string_view to_string(Source source);

/// Zeroed memory of one kind.
class Memory {
 public:
  Memory(Source source, size_t bytes);
  ~Memory();
  Memory(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory& operator=(Memory&&) = delete;

  [[nodiscard]] std::byte* data() const { return data_; }
  [[nodiscard]] size_t bytes() const { return bytes_; }
  [[nodiscard]] Source source() const { return source_; }

 private:
  Source source_;
  size_t bytes_;
  std::byte* data_;
};

}  // namespace example
