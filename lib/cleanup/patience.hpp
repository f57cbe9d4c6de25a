// How long a cleanup waits for what, in one table: for the operator who asks why it waits,
// or why it gave up. What the options set is not here: --lock-timeout (for each try of a lock that
// keeps others waiting), --max-duration (the run) and -t (each answer that should be quick).
#pragma once

#include <chrono>

namespace django_session::sessions::patience {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// The run

inline constexpr hours kNoEnd{10 * 365 * 24};    // where there is no --max-duration
inline constexpr milliseconds kNoticesStop{50};  // while it rests
inline constexpr seconds kReconnects{60};        // after a lost connection: a server restarts
inline constexpr seconds kBetweenReconnects{1};
// A process of ours that was killed leaves a backend that runs to the end of its statement.
inline constexpr seconds kForOtherCleanup{3};
inline constexpr milliseconds kBetweenClaims{200};
inline constexpr minutes kForReplicas{5};  // until they are no further behind than --max-lag
inline constexpr seconds kBetweenReplicaLooks{1};
// Who can still see what was deleted keeps its space from being reused; an old snapshot doesn't see
// what a swap has copied. Web requests are over by then; reports and dumps, which may last for
// hours, are not waited for.
inline constexpr seconds kForOldSnapshots{30};

// Questions

inline constexpr milliseconds kCatalogLock{100};  // nobody waits any longer for us
inline constexpr seconds kCounting{5};            // of rows for a plan; half of -t if that is less
inline constexpr seconds kWatchesNewSessions{2};  // against a wrong clock
inline constexpr milliseconds kBetweenSessionLooks{200};
// The server gives up a statement before we give up the connection.
inline constexpr seconds kAnswersWay{5};
inline constexpr seconds kForAnEnd{1};  // of a backend that a timeout left behind

// Deleting

// A session rewrites or alters the table, or holds what a trigger or a foreign key needs.
inline constexpr seconds kForDeletesLock{60};
inline constexpr milliseconds kBetweenDeletesLocks{500};
// Batches are short: to look at replicas and for other cleanups costs as much as a small one.
inline constexpr milliseconds kBetweenLooksAround{200};
inline constexpr seconds kDeletesWay{1};  // of an answer, beyond -t

// VACUUM, REINDEX, VACUUM FULL

// Longer than deadlock_timeout (1 s), after which a waiting request makes autovacuum step aside.
// Who waits with SHARE UPDATE EXCLUSIVE keeps no session from being read or saved.
inline constexpr seconds kVacuumsLock{10};
// REINDEX CONCURRENTLY waits for every transaction that is older than it; it blocks nobody
// meanwhile.
inline constexpr minutes kReindexsLock{1};
inline constexpr seconds kLeftoverIndexsLock{3};
inline constexpr seconds kDisplacesAutovacuum{3};
inline constexpr minutes kForFullsLock{10};
inline constexpr milliseconds kBetweenFullsLocks{2000};  // at most, and at least a quarter of it
inline constexpr milliseconds kBetweenSnapshotLooks{500};
inline constexpr minutes kFindsDuplicates{1};  // in the table, before an index is rebuilt

// Statements that take long

inline constexpr milliseconds kBetweenSlices{100};  // notices that the end is wanted
inline constexpr hours kLongestStatement{24};
inline constexpr seconds kOurselvesFirst{5};  // before the server's own limit ends it
inline constexpr seconds kBetweenSigns{1};    // of life, which a second connection looks for
inline constexpr seconds kLastLook{1};        // by it, at who was waited for, before a cancel
// Times -t, without a sign of life. What waits (for a disk, its own pauses) shows something else
// within seconds; what computes may show nothing for minutes.
inline constexpr int kWithoutSignsWaiting = 30, kWithoutSignsComputing = 180;

// Swapping

// Each of its locks is tried for, again and again, before the run gives up. The pauses grow: each
// try that fails makes clients wait for --lock-timeout.
inline constexpr minutes kForSwapsLock{10};
inline constexpr milliseconds kShortestPause{100}, kLongestPause{5000};
// A session that has held a lock for longer won't be gone soon; only after so long without a better
// moment (or a third of the run) is it tried all the same, where all transactions always take long.
inline constexpr milliseconds kLongTransaction{1000};
inline constexpr minutes kHopesForBetter{4};
inline constexpr seconds kFirstLockNote{2}, kBetweenLockNotes{30};
// On the swap's own helpers; nobody else uses them, but a process of ours that was killed may still
// run.
inline constexpr seconds kHelpersLock{3};
inline constexpr seconds kForHelpersLock{20};  // all tries together
// A run that hasn't renewed its lease for so long may be taken over. It needn't outlast a
// statement: a run that was taken over finds out before it does anything further.
inline constexpr seconds kLease{30};
inline constexpr seconds kBetweenRenewals{5};  // of the lease, while the run waits
// A VACUUM of a run that was killed ends by itself; one of a run that lives is not waited for.
inline constexpr seconds kForForeignVacuum{5};
// The exclusive lock is held for as long as one may wait for it, longer only where that has failed.
inline constexpr seconds kLongestHeld{2};
inline constexpr seconds kTidyUp{5};  // before a run gives up

}  // namespace django_session::sessions::patience
