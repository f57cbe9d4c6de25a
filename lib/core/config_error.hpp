// What a person typed wrongly, in a configuration or on a command line.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace django_session {

/// An option's value can't be used. `what()` names the option or text, what is wrong with it and
/// what would be right, so that it can be shown as it is. Never holds a password.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Text that can't be read: `cannot read "1-10" as a range at "-10": ..., for example 1:10`.
/// `position` is the 0-based byte where reading stopped; `kind` is "a range", "a size"...
/// `text` is shown as repeatable() has it.
ConfigError unreadable(std::string_view text, std::size_t position, std::string_view kind,
                       std::string_view wrong, std::string_view example);

}  // namespace django_session
