// What a swap's messages report (swap_sql.hpp): rows in, figures out. Pure. In the state's table the
// owner could have written anything: what can't be throws std::runtime_error.
#pragma once

#include <string>

#include "cleanup/swap_phase.hpp"
#include "core/oid.hpp"
#include "pg/rows.hpp"

namespace django_session::sessions {

struct SwapStateRow {
  std::string run_id;  ///< 32 hexadecimal digits
  Phase phase = Phase::unknown;
  Oid shadow;
  double keep_seconds = 0, copied = 0;
  double rows_before = 0, bytes_before = 0;  ///< below 0: not known, or reported
  double age = 0, lease = 0;                 ///< seconds since it began; that are left
  bool backend_gone = false, is_vacuumed = false, intact = false;

  bool lives() const { return is_vacuumed || (lease > 0 && !backend_gone); }
};

SwapStateRow read_swap_state(const pg::Row& row);

struct CopiedChunk {
  double rows = 0;  ///< of this chunk
  double copied = 0, log_bytes = 0;
};

CopiedChunk read_copied_chunk(const pg::Row& row);

struct DrainedKeys {
  double keys = 0, ms = 0;
  bool truncated = false;
};

DrainedKeys read_drained_keys(const pg::Row& row);

struct ComparedRows {
  double copied = 0, rows_before = 0;
};

ComparedRows read_compared_rows(const pg::Row& row);

}  // namespace django_session::sessions
