// The names of the methods, in options and in messages.
#include "core/cleanup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/config_error.hpp"
#include "core/printable.hpp"

namespace django_session {
namespace {

struct MethodName {
  Method method;
  std::string_view name;
};

constexpr std::array<MethodName, 4> kMethods = {{
    {Method::automatic, "auto"},
    {Method::remove, "delete"},
    {Method::swap, "swap"},
    {Method::full, "full"},
}};

}  // namespace

std::string_view method_name(Method method) {
  const auto* found = std::find_if(kMethods.begin(), kMethods.end(),
                                   [method](const auto& known) { return known.method == method; });
  return found->name;
}

Method parse_method(std::string_view name) {
  const auto* found = std::find_if(kMethods.begin(), kMethods.end(),
                                   [name](const auto& known) { return known.name == name; });
  if (found == kMethods.end())
    throw ConfigError(
        fmt::format("\"{}\" is not a method; the methods are auto, delete, swap, full",
                    without_controls(name.substr(0, 60), '?')));
  return found->method;
}

}  // namespace django_session
