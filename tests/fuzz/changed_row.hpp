// The input of the programs that fuzz what the server answers: a line is `column=value`, which
// replaces a value of a healthy row. A value of \N is NULL, and | stands for a line's end in a value.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "../server_rows.hpp"

namespace django_session::fuzz {

inline void replace(pg::Row& row, std::string_view line) {
  const std::size_t at = line.find('=');
  if (at == std::string_view::npos || !row.has(std::string(line.substr(0, at)))) return;
  std::string value(line.substr(at + 1));
  std::replace(value.begin(), value.end(), '|', '\n');
  row.set(std::string(line.substr(0, at)),
          value == "\\N" ? std::nullopt : std::optional<std::string>(value));
}

inline pg::Row changed(pg::Row row, std::string_view text) {
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    replace(row, text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return row;
}

/// With the values of columns under others' names.
inline pg::Row renamed(pg::Row row,
                       std::initializer_list<std::pair<const char*, const char*>> columns) {
  for (const auto& [from, to] : columns) row.set(to, row.optional_text(from));
  return row;
}

}  // namespace django_session::fuzz
