// How a cleanup makes way for the readers of this server's WAL: replicas, replication slots, the
// archiver.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cleanup/run.hpp"
#include "core/wal_lag.hpp"

namespace django_session::sessions {

/// Returns at once unless a replica, a replication slot or the archiver is further behind than
/// --max-lag allows (1 GB where no bytes are given); then waits for it, with a note. Throws
/// Stopped, with its name, after five minutes of that, or at the end of the run. `meanwhile` is
/// called about each second of the wait.
void wait_for_replicas(Run& run, const std::function<void()>& meanwhile = {});

/// For a note: who is too far behind now, so that wait_for_replicas() would wait. Empty where nobody
/// is.
std::string who_delays_us(Run& run);

/// Which readers of the WAL might fall behind without our noticing, for notes: replicas whose lag
/// this role may not see (that takes pg_read_all_stats) and that have no slot, and an archiver of
/// which nothing is known.
std::vector<std::string> what_hides_from_us(Run& run);

/// For a note: that the synchronous standby is gone. Empty where there is one, or none is wanted.
std::string missing_synchronous_standby(Run& run);

/// A row of sql/wal_readers.sql.
WalReader read_wal_reader(const pg::Row& row);

}  // namespace django_session::sessions
