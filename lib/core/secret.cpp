// Which shapes passwords come in when they are smuggled.
#include "core/secret.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "core/printable.hpp"

namespace django_session {
namespace {

constexpr std::size_t kLongestShown = 60;  // bytes
constexpr std::string_view kEllipsis = "...";

bool is_hexadecimal(char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; }
bool is_letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; }

/// "::1", "fe80::1%eth0", "::ffff:10.0.0.1".
bool is_ipv6(std::string_view host) {
  const std::string_view address = host.substr(0, host.find('%'));
  return std::count(address.begin(), address.end(), ':') >= 2 &&
         std::all_of(address.begin(), address.end(),
                     [](char c) { return is_hexadecimal(c) || c == ':' || c == '.'; });
}

bool speaks_of_passwords(std::string_view text) {
  std::string small(text);
  std::transform(small.begin(), small.end(), small.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  constexpr std::array<std::string_view, 4> kSigns = {"passw", "pasw", "pwd", "://"};
  return std::any_of(kSigns.begin(), kSigns.end(),
                     [&](std::string_view sign) { return small.find(sign) != std::string::npos; });
}

/// "user:password", also after "user="; "metric=1:2", "1:2" and "~:2" are ranges.
bool looks_like_a_login(std::string_view text) {
  const auto equals = text.find('=');
  if (equals != std::string_view::npos && looks_like_a_login(text.substr(equals + 1))) return true;
  return !text.empty() && is_letter(text.front()) &&
         text.substr(0, equals).find(':') != std::string_view::npos;
}

}  // namespace

bool may_hold_password(std::string_view name) {
  return speaks_of_passwords(name) || name.find_first_of(":=") != std::string_view::npos;
}

bool host_may_hold_password(std::string_view hosts) {
  for (;;) {
    const auto comma = hosts.find(',');
    const std::string_view host = hosts.substr(0, comma);
    const bool is_path = host.starts_with('/') || host.starts_with('@');
    const bool has_login = may_hold_password(host) || host.find('@') != std::string_view::npos;
    if (!is_path && !is_ipv6(host) && has_login) return true;
    if (comma == std::string_view::npos) return false;
    hosts.remove_prefix(comma + 1);
  }
}

std::string repeatable(std::string_view text) {
  const auto at = text.find('@', 1);  // "@10:20" is a range
  if (speaks_of_passwords(text) || looks_like_a_login(text) || at != std::string_view::npos)
    return "(hidden)";
  if (text.size() <= kLongestShown) return without_controls(text, '?');
  return without_controls(cut_to_bytes(text, kLongestShown - kEllipsis.size()), '?')
      .append(kEllipsis);
}

}  // namespace django_session
