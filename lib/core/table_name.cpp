// Splitting `[SCHEMA.]TABLE` at the dot that is outside quotes.
#include "core/table_name.hpp"

#include <vector>

#include "core/config_error.hpp"
#include "core/secret.hpp"

namespace django_session {
namespace {

constexpr std::string_view kExample = "public.django_session";
constexpr std::size_t kMaxNameBytes = 63;  // PostgreSQL's NAMEDATALEN - 1

/// Reads one part, quoted or not, and moves `position` behind it.
std::string read_part(std::string_view text, std::size_t& position) {
  std::string part;
  const auto fail = [&](std::string_view wrong) {
    return unreadable(text, position, "a table's name", wrong, kExample);
  };
  if (position < text.size() && text[position] == '"') {
    for (++position;; ++position) {
      if (position >= text.size()) throw fail("the closing quote is missing");
      if (text[position] != '"') {
        part += text[position];
      } else if (position + 1 < text.size() && text[position + 1] == '"') {
        part += text[++position];
      } else {
        break;
      }
    }
    ++position;
  } else {
    while (position < text.size() && text[position] != '.') {
      if (may_hold_password(text.substr(position, 1)))
        throw ConfigError(
            "a table's name with a ':' or '=' needs double quotes (not repeated here, it may "
            "hold a password), for example public.\"odd:name\"");
      if (text[position] == '"') throw fail("a quote is allowed only around a whole name");
      part += text[position++];
    }
  }
  if (part.empty()) throw fail("a name is empty");
  if (part.size() > kMaxNameBytes) throw fail("PostgreSQL's names have at most 63 bytes");
  return part;
}

}  // namespace

TableName parse_table_name(std::string_view text) {
  std::vector<std::string> parts;
  std::size_t position = 0;
  for (;;) {
    parts.push_back(read_part(text, position));
    if (position == text.size()) break;
    if (text[position] != '.' || parts.size() == 2)
      throw unreadable(text, position, "a table's name", "expected SCHEMA.TABLE", kExample);
    ++position;
  }
  if (parts.size() == 1) return {"", parts[0]};
  return {parts[0], parts[1]};
}

}  // namespace django_session
