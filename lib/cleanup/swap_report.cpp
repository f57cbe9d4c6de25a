// Figures within bounds, so that none of them lets a run wait or work without end.
#include "cleanup/swap_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace django_session::sessions {
namespace {

double amount(const pg::Row& row, const char* column) {
  const auto number = row.number(column, pg::kAmount);
  if (!number) throw std::runtime_error(fmt::format("column {} is NULL", column));
  return *number;
}

/// -1 where it isn't known.
double amount_if_known(const pg::Row& row, const char* column) {
  constexpr pg::Bounds kAmountOrUnknown{-1, pg::kAmount.most};
  return row.number(column, kAmountOrUnknown).value_or(-1);
}

bool is_run_id(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

std::string run_id(const pg::Row& row) {
  std::string text = row.text("run_id");
  if (!is_run_id(text)) throw std::runtime_error("no run has this state");
  return text;
}

Phase phase(const pg::Row& row) {
  std::string name = row.text("phase");
  std::replace(name.begin(), name.end(), '_', ' ');
  return phase_named(name);
}

/// None is longer than minutes: what seems to be was taken before the server's clock was set back.
double lease(const pg::Row& row) {
  constexpr double kLongest = 24 * 3600;
  const double left = row.number("lease", pg::kMoment).value_or(0);
  return left <= kLongest ? left : 0;
}

}  // namespace

SwapStateRow read_swap_state(const pg::Row& row) {
  return {run_id(row),
          phase(row),
          row.oid("shadow"),
          amount(row, "keep_seconds"),
          amount(row, "copied"),
          amount_if_known(row, "rows_before"),
          amount_if_known(row, "bytes_before"),
          row.number("age", pg::kMoment).value_or(0),
          lease(row),
          row.flag("backend_gone"),
          row.flag("is_vacuumed"),
          row.flag("intact")};
}

CopiedChunk read_copied_chunk(const pg::Row& row) {
  return {amount(row, "rows"), amount(row, "copied"), amount(row, "log_bytes")};
}

DrainedKeys read_drained_keys(const pg::Row& row) {
  return {amount(row, "keys"), std::max(0.0, row.number("ms", pg::kMoment).value_or(0)),
          row.flag("truncated")};
}

ComparedRows read_compared_rows(const pg::Row& row) {
  return {amount(row, "copied"), amount(row, "rows_before")};
}

}  // namespace django_session::sessions
