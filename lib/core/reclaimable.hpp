// What the disk would get back from a complete cleanup: every file's size now, less the size it
// would have if only the live rows were written into it afresh. Sizes in bytes throughout.
//
// Where each figure comes from:
//   sizes now      stat() of the files, by PostgreSQL's size functions
//   rows           row_estimate.hpp
//   row width      average widths of the columns: from pg_stats, or, for a role that can't read the
//                  column, from the function of conf.d/roles.sql that gives the widths alone;
//                  else the file's own density, which hides free space
//   TOAST          the number of chunks; all but a value's last hold 1,996 bytes (the statistics
//                  know only the pointer's width)
//   index entries  fixed by the columns' types; Django's session keys have 32 characters
#pragma once

#include <optional>
#include <vector>

#include "core/row_estimate.hpp"

namespace django_session {

struct ColumnWidth {
  double bytes = 0;      ///< as stored, with its length word
  double alignment = 1;  ///< bytes; 1 for values with a one-byte length word
  double null_fraction = 0;
  double distinct =
      0;  ///< pg_stats.n_distinct: > 0 a number, < 0 a fraction of the rows, 0 not known
};

/// Rows of the table by what would become of them; `dead` are row versions that VACUUM hasn't
/// removed yet.
struct RowKinds {
  double live = 0, expired = 0, dead = 0;
  double all() const { return live + expired + dead; }
};

/// Nothing unless the width of every column in question is known.
using ColumnWidths = std::optional<std::vector<ColumnWidth>>;

struct HeapFile {
  double bytes = 0;
  double fillfactor = 100;  ///< percent
  ColumnWidths columns;
};

struct ToastFiles {
  double heap_bytes = 0, index_bytes = 0;
  std::optional<double> chunks;  ///< live ones
};

struct IndexFile {
  double bytes = 0;
  double fillfactor = 90;
  bool unique = false;
  ColumnWidths columns;  ///< nothing, too, for another kind than a plain B-tree over columns
};

/// The parts of what is reclaimable; they say which remedy helps.
struct Reclaimable {
  double expired = 0;     ///< taken by expired rows, in heap, TOAST and indexes: delete
  double dead = 0;        ///< taken by dead row versions: vacuum
  double free = 0;        ///< free space in heap and TOAST: swap or full
  double bloat = 0;       ///< half-empty index pages: reindex
  bool at_least = false;  ///< some width isn't known, so that free space may be larger

  double total() const { return expired + dead + free + bloat; }
};

/// Free space and bloat are negative where a file would grow: its fill factor was lowered after it
/// had been filled.
Reclaimable estimate_reclaimable(const RowKinds& rows, const HeapFile& heap,
                                 const ToastFiles& toast, const std::vector<IndexFile>& indexes);

/// Where one part grows, the others give so much less back; none is negative.
Reclaimable without_growth(Reclaimable reclaimable);

/// The size of an index of so many rows, rebuilt. Where it is smaller now than its widths say, it
/// grows only by what a lower fill factor explains.
double rebuilt_index_bytes(double rows, double bytes_now, const IndexFile& index);

/// Size of a freshly built B-tree.
double compact_index_bytes(double rows, const std::vector<ColumnWidth>& columns, double fillfactor,
                           bool unique);

/// Bytes that one row takes in a full heap page, with its line pointer and its share of what is
/// left over.
double heap_bytes_per_row(const std::vector<ColumnWidth>& columns, double fillfactor);

}  // namespace django_session
