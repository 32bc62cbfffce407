#pragma once

#include <string_view>

namespace flexins::provider {

/// One line on stderr, always: for what ends a program's hope, such as a missing engine.
void complain(std::string_view message) noexcept;
/// One line on stderr when FLEXINS_LOG is set.
void log_line(std::string_view message) noexcept;

}  // namespace flexins::provider
