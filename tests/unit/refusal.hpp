// What a refusal says, for tests that compare messages.
#pragma once

#include <string>

#include "core/config_error.hpp"

namespace django_session {

/// The message of the ConfigError that `call` throws, or "" if it throws none.
template <typename Call>
std::string refusal(Call call) {
  try {
    call();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

}  // namespace django_session
