// Lines of `key value`, from a first one that says what it is to a last one that says it is whole.
#include "plugin/past_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <system_error>

#include "plugin/descriptor.hpp"

namespace django_session::plugin {
namespace {

constexpr std::string_view kFirstLine = "django_session cleanups 1";
constexpr std::string_view kLastLine = "whole";
constexpr std::size_t kLongestFile = 4096;  // bytes; a host's name has at most 127
constexpr int kMostUseless = 1'000'000;

struct OutcomeName {
  Outcome outcome;
  std::string_view name;
};

constexpr std::array<OutcomeName, 3> kTroubles = {
    {{Outcome::stopped, "stopped"}, {Outcome::failed, "failed"}, {Outcome::refused, "refused"}}};

std::string_view name_of(Outcome trouble) {
  for (const OutcomeName& known : kTroubles)
    if (known.outcome == trouble) return known.name;
  return "";
}

std::optional<Outcome> trouble_named(std::string_view name) {
  for (const OutcomeName& known : kTroubles)
    if (known.name == name) return known.outcome;
  return std::nullopt;
}

template <class Number>
bool read_number(std::string_view text, Number least, Number most, Number& number) {
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc() && stop == end && least <= number && number <= most;
}

bool needs_escape(char c) {
  return c == '%' || c == '/' || (c >= 0 && c <= ' ') || c == 0x7f;  // UTF-8 stays
}

/// "%2F" for a slash, and the like.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (needs_escape(c))
      result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    else
      result += c;
  }
  return result;
}

std::optional<std::string> unescaped(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      result += text[i];
      continue;
    }
    const std::string_view digits = text.substr(i + 1, 2);
    unsigned code = 0;
    const auto [stop, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
    if (error != std::errc() || digits.size() != 2 || stop != digits.data() + 2)
      return std::nullopt;
    result += static_cast<char>(code);
    i += 2;
  }
  return result;
}

/// "reclaimable db1"
bool read_cause(std::string_view text, CleanupPast& past) {
  const std::size_t blank = text.find(' ');
  if (blank == std::string_view::npos) return false;
  const std::optional<Metric> metric = find_metric(text.substr(0, blank));
  const std::optional<std::string> host = unescaped(text.substr(blank + 1));
  if (!metric || !host) return false;
  past.cause = CleanupSource{*host, *metric};
  return true;
}

bool read_time(std::string_view text, CleanupPast& past) {
  constexpr long long kYear9999 = 253'402'300'799;
  long long seconds = 0;
  if (past.last || !read_number(text, 0LL, kYear9999, seconds)) return false;
  past.last = std::chrono::sys_seconds(std::chrono::seconds(seconds));
  return true;
}

bool read_line(std::string_view line, CleanupPast& past) {
  const std::size_t blank = std::min(line.find(' '), line.size());
  const std::string_view key = line.substr(0, blank);
  const std::string_view value = line.substr(std::min(blank + 1, line.size()));
  if (key == "began" || key == "ended") {
    past.ended = key == "ended";
    return read_time(value, past);
  }
  if (key == "useless") return read_number(value, 0, kMostUseless, past.useless_cleanups);
  if (key == "cause") return read_cause(value, past);
  if (key != "trouble") return false;
  past.trouble = trouble_named(value);
  return past.trouble.has_value();
}

[[noreturn]] void fail(const std::string& path, int error) {
  throw PastFileError(fmt::format("{}: {}", path, std::generic_category().message(error)));
}

/// At most one byte more than there should be.
std::string content_of(int file, const std::string& path) {
  std::string text(kLongestFile + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(file, text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path, errno);
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
  }
  text.resize(size);
  return text;
}

void write_all(int file, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail(path, errno);
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace

std::string past_text(const CleanupPast& past) {
  std::string text = fmt::format("{}\n", kFirstLine);
  if (past.last)
    text += fmt::format("{} {}\n", past.ended ? "ended" : "began",
                        past.last->time_since_epoch().count());
  text += fmt::format("useless {}\n", past.useless_cleanups);
  if (past.trouble) text += fmt::format("trouble {}\n", name_of(*past.trouble));
  if (past.cause)
    text += fmt::format("cause {} {}\n", info(past.cause->metric).name, escaped(past.cause->host));
  return text + fmt::format("{}\n", kLastLine);
}

std::optional<CleanupPast> parse_past(std::string_view text) {
  CleanupPast past;
  bool is_first = true, is_whole = false;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    if (end == std::string_view::npos || is_whole) return std::nullopt;
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    is_whole = line == kLastLine;
    if (is_first ? line != kFirstLine : !is_whole && !read_line(line, past)) return std::nullopt;
    is_first = false;
  }
  if (!is_whole) return std::nullopt;
  return past;
}

std::optional<CleanupPast> read_past(const std::string& path) {
  // Not to be held up by a pipe of that name.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.number() < 0) {
    if (errno == ENOENT) return std::nullopt;
    fail(path, errno);
  }
  const std::string text = content_of(file.number(), path);
  const std::optional<CleanupPast> past = parse_past(text);
  if (!past) throw PastFileError(fmt::format("{}: damaged", path));
  return past;
}

void write_past(const std::string& path, const CleanupPast& past) {
  const std::string made = path + ".new";
  unlink(made.c_str());  // of one that was killed
  Descriptor file(
      open(made.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR));
  if (file.number() < 0) fail(made, errno);
  write_all(file.number(), past_text(past), made);
  if (fsync(file.number()) != 0 || !file.reset()) fail(made, errno);
  if (rename(made.c_str(), path.c_str()) != 0) fail(path, errno);
}

std::string past_file_name(std::string_view instance) {
  return fmt::format("django_session-{}.cleanups", escaped(instance));
}

}  // namespace django_session::plugin
