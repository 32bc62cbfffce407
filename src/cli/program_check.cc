#include "cli/program_check.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <sstream>

#include "base/unique_fd.h"

namespace flexins::cli {
namespace {

constexpr int kMaxInterpreters = 4;  // as the kernel

base::Error failed(const std::string& file, int code) {
  return base::Error{code, file + ": " + std::strerror(code)};
}

std::optional<int> why_not_executable(const std::string& file) {
  struct stat info {};
  if (::stat(file.c_str(), &info) != 0) return errno;
  if (!S_ISREG(info.st_mode)) return EACCES;
  if (::access(file.c_str(), X_OK) != 0) return errno;
  return std::nullopt;
}

/// Would the loader run it in secure mode, without our library?
bool gains_privilege(const std::string& file, const struct stat& info) {
  if ((info.st_mode & S_ISUID) != 0 && info.st_uid != ::geteuid()) return true;
  if ((info.st_mode & S_ISGID) != 0 && info.st_gid != ::getegid()) return true;
  return ::geteuid() != 0 && ::getxattr(file.c_str(), "security.capability", nullptr, 0) > 0;
}

bool has_interpreter(int fd, const Elf64_Ehdr& header) {
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Elf64_Phdr segment;
    const auto offset = static_cast<off_t>(header.e_phoff + uint64_t{i} * sizeof segment);
    if (::pread(fd, &segment, sizeof segment, offset) != sizeof segment) return false;
    if (segment.p_type == PT_INTERP) return true;
  }
  return false;
}

base::Result<void> check_elf(const std::string& file, int fd) {
  Elf64_Ehdr header{};
  const ssize_t got = ::pread(fd, &header, sizeof header, 0);
  if (got < EI_NIDENT || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) return {};
  if (header.e_ident[EI_CLASS] != ELFCLASS64) {
    return base::Error{ENOEXEC, file + ": a 32-bit program; FlexiNS serves 64-bit ones"};
  }
  if (got < static_cast<ssize_t>(sizeof header) || header.e_phentsize != sizeof(Elf64_Phdr)) {
    return failed(file, ENOEXEC);
  }
  if (has_interpreter(fd, header)) return {};
  return base::Error{ENOEXEC, file +
                                  ": statically linked, so no library can be preloaded and it "
                                  "would not see the device; build it with shared libraries"};
}

/// The interpreter that a script names in its first line; empty: no script.
std::string interpreter_of(int fd) {
  char line[256] = {};
  if (::pread(fd, line, sizeof line - 1, 0) < 3 || line[0] != '#' || line[1] != '!') return {};
  line[std::strcspn(line, "\n")] = '\0';
  std::string interpreter;
  std::istringstream(line + 2) >> interpreter;
  return interpreter;
}

}  // namespace

base::Result<std::string> find_program(const std::string& program, const std::string& path) {
  if (program.find('/') != std::string::npos) {
    if (const auto reason = why_not_executable(program)) return failed(program, *reason);
    return program;
  }
  int reason = ENOENT;
  std::istringstream folders(path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string file = (folder.empty() ? "." : folder) + "/" + program;
    const auto problem = why_not_executable(file);
    if (!problem) return file;
    // A folder of $PATH that cannot be searched says nothing about the program.
    if (*problem == EACCES && ::access(file.c_str(), F_OK) == 0) reason = EACCES;
  }
  return base::Error{reason, program + (reason == ENOENT ? ": not found in $PATH"
                                                         : ": found, but not executable")};
}

base::Result<void> check_program(const std::string& file) {
  std::string current = file;
  for (int depth = 0; depth <= kMaxInterpreters; ++depth) {
    struct stat info {};
    if (::stat(current.c_str(), &info) != 0) return failed(current, errno);
    if (gains_privilege(current, info)) {
      return base::Error{EPERM, current +
                                    ": a setuid, setgid or file-capability program; the "
                                    "system preloads no library into those, so it would not "
                                    "see the device"};
    }
    const base::UniqueFd fd(::open(current.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) return {};  // executable but not readable: the kernel will judge it
    std::string interpreter = interpreter_of(fd.get());
    if (interpreter.empty()) return check_elf(current, fd.get());
    current = std::move(interpreter);
  }
  return failed(file, ELOOP);
}

}  // namespace flexins::cli
