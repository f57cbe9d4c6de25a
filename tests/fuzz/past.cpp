// The file in which a hook's waits outlast the daemon: what is taken for whole is written the same.
#include "demand.hpp"
#include "plugin/past_file.hpp"

using namespace django_session;
using namespace django_session::plugin;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const std::string name = past_file_name(text);
  fuzz::demand(name.find('/') == std::string::npos, "no slash", name);
  if (const auto past = parse_past(text)) {
    const std::string written = past_text(*past);
    fuzz::demand(parse_past(written) == past, "the same again", written);
  }
  return 0;
}
