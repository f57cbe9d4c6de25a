// PostgreSQL's page arithmetic (storage/bufpage.h, access/htup_details.h, access/nbtree), for its
// default 8 kB pages.
#include "core/reclaimable.hpp"

#include <algorithm>
#include <cmath>

namespace django_session {
namespace {

constexpr double kPage = 8192;
constexpr double kPageHeader = 24;
constexpr double kLinePointer = 4;
constexpr double kTupleHeader = 24;   // 23 bytes, aligned
constexpr double kBtreeSpecial = 16;  // at the end of each B-tree page
constexpr double kIndexTupleHeader = 8;
constexpr double kHeapPointer = 6;  // a row's address in a posting list
constexpr double kMaxPostingList =
    812;  // a tenth of a page: nbtree's limit while it builds an index
constexpr double kInternalFillfactor = 70;
constexpr double kWidestRow =
    kPage / 4;  // wider rows go to TOAST, and so do their last columns' values
constexpr double kToastChunk = kPage / 4;  // of a page for a full chunk: four fit
constexpr double kToastLastChunk =
    36 + 998 + kLinePointer;  // a value's last chunk: half full on average

// Free space below this share of a file is within what average widths and page ends can't tell.
constexpr double kNoise = 0.05;

constexpr double kUsualFillfactor = 90;  // of a B-tree

double align(double bytes, double alignment) { return std::ceil(bytes / alignment) * alignment; }

/// Width of the columns' values one after the other, each at its alignment.
double data_width(const std::vector<ColumnWidth>& columns) {
  double width = 0;
  for (const ColumnWidth& column : columns)
    width = align(width, column.alignment) + column.bytes * (1 - column.null_fraction);
  return width;
}

/// Splits a heap's bytes by kind of row. `per_row` is what a row takes where there is no free
/// space.
void add_heap(Reclaimable& result, double bytes, const RowKinds& rows, double per_row) {
  if (rows.all() * per_row > bytes * (1 - kNoise) && rows.all() > 0) per_row = bytes / rows.all();
  result.expired += rows.expired * per_row;
  result.dead += rows.dead * per_row;
  result.free += bytes - rows.all() * per_row;
}

/// What a live row takes in a new heap beyond what it takes in this one, if the fill factor
/// explains it. (The widths are averages: what they are too wide for this file, they are for the
/// new one.)
double growth_per_row(const HeapFile& heap, const RowKinds& rows) {
  if (!heap.columns || rows.all() <= 0) return 0;
  const double present = heap.bytes / rows.all();
  const double full = heap_bytes_per_row(*heap.columns, 100);
  const double afresh =
      heap_bytes_per_row(*heap.columns, heap.fillfactor) * std::min(1.0, present / full);
  return std::max(0.0, afresh - present);
}

/// Expired and dead rows take their share of the index as it is; what the live rows' share has
/// beyond a fresh build is bloat.
void add_index(Reclaimable& result, const IndexFile& index, const RowKinds& rows) {
  const double per_row = rows.all() > 0 ? index.bytes / rows.all() : 0;
  result.expired += rows.expired * per_row;
  result.dead += rows.dead * per_row;
  const double of_live = rows.all() > 0 ? rows.live * per_row : index.bytes;
  if (index.columns)
    result.bloat += of_live - rebuilt_index_bytes(rows.live, of_live, index);
  else
    result.at_least = true;
}

/// Bytes of TOAST that a row takes on average, where there is no free space. A value's last chunk
/// is anything from empty to full, so a file that is no larger than its chunks could fill is taken
/// as full: `at_least`.
double toast_bytes_per_row(const ToastFiles& toast, double chunks, const RowKinds& rows,
                           bool& at_least) {
  const double present = rows.live + rows.expired;
  // What is moved out nearly fills a chunk at least (TOAST_TUPLE_THRESHOLD): an only chunk is full, too.
  const double with_toast = std::min(present, chunks / 2);
  const double expected = (chunks - with_toast) * kToastChunk + with_toast * kToastLastChunk;
  const double most = chunks * kToastChunk;
  const double of_present = toast.heap_bytes * present / rows.all();
  if (of_present > most * (1 + kNoise)) {
    if (chunks >= 2 * present) return expected / present;
    at_least = true;  // nobody knows how many have a value here: few of many chunks have full ones
    return most / present;
  }
  if (of_present > expected * (1 + kNoise)) at_least = true;
  return of_present / present;
}

void add_toast(Reclaimable& result, const ToastFiles& toast, const RowKinds& rows) {
  if (toast.heap_bytes <= 0) return;
  const double present = rows.live + rows.expired;
  if (!toast.chunks || present <= 0) {
    result.at_least = result.at_least || rows.all() > 0;
    add_heap(result, toast.heap_bytes, rows, rows.all() > 0 ? toast.heap_bytes / rows.all() : 0);
    add_index(result, {toast.index_bytes, 90, true, {}}, rows);
    return;
  }
  add_heap(result, toast.heap_bytes, rows,
           toast_bytes_per_row(toast, *toast.chunks, rows, result.at_least));
  const double chunks_per_row = *toast.chunks / present;
  const RowKinds entries{rows.live * chunks_per_row, rows.expired * chunks_per_row,
                         rows.dead * chunks_per_row};
  const std::vector<ColumnWidth> chunk_id_and_seq = {{4, 4, 0, 0}, {4, 4, 0, 0}};
  add_index(result, {toast.index_bytes, 90, true, chunk_id_and_seq}, entries);
}

/// A build fills a page up to the fill factor, moves the entry that crossed it to the next page,
/// and keeps the place of the page's high key and of one more line pointer free.
double btree_entries_per_page(double entry_bytes, double fillfactor) {
  const double usable = kPage - kPageHeader - kBtreeSpecial - 2 * kLinePointer;
  const double room = usable - std::floor(kPage * (100 - fillfactor) / 100);
  return std::max(2.0, std::ceil(room / entry_bytes) - 1);
}

/// Dead rows that a rewrite (VACUUM FULL) has removed are still counted until the next ANALYZE: no
/// more can be there than fit beside the others.
RowKinds fitting(RowKinds rows, double heap_bytes, double per_row) {
  const double room = std::max(0.0, heap_bytes / per_row - rows.live - rows.expired);
  rows.dead = std::min(rows.dead, std::ceil(room));
  return rows;
}

}  // namespace

double heap_bytes_per_row(const std::vector<ColumnWidth>& columns, double fillfactor) {
  const double tuple = align(kTupleHeader + data_width(columns), 8) + kLinePointer;
  const double room = kPage - kPageHeader - kPage * (100 - fillfactor) / 100;
  return kPage / std::max(1.0, std::floor(room / tuple));
}

double rebuilt_index_bytes(double rows, double bytes_now, const IndexFile& index) {
  const auto compact = [&](double fillfactor) {
    return compact_index_bytes(rows, *index.columns, fillfactor, index.unique);
  };
  const double built = compact(index.fillfactor);
  return std::min(built, bytes_now * std::max(1.0, built / compact(kUsualFillfactor)));
}

Reclaimable without_growth(Reclaimable parts) {
  double growth = std::max(0.0, -parts.free) + std::max(0.0, -parts.bloat);
  for (double* part : {&parts.expired, &parts.dead, &parts.free, &parts.bloat}) {
    *part = std::max(0.0, *part);
    const double less = std::min(*part, growth);
    *part -= less;
    growth -= less;
  }
  return parts;
}

double compact_index_bytes(double rows, const std::vector<ColumnWidth>& columns, double fillfactor,
                           bool unique) {
  if (rows < 1) return kPage;  // the meta page
  const double entry = align(kIndexTupleHeader + data_width(columns), 8);
  double bytes_per_row = entry + kLinePointer;
  const double n_distinct = columns.size() == 1 ? columns[0].distinct : 0;
  const double rows_per_key = n_distinct < 0 ? -1 / n_distinct : rows / n_distinct;
  if (!unique && n_distinct != 0 && rows_per_key >= 2) {
    // Equal keys share one entry with a list of row addresses (PostgreSQL 13 and later).
    const double in_list =
        std::clamp(std::floor((kMaxPostingList - entry) / kHeapPointer), 1.0, rows_per_key);
    bytes_per_row = (align(entry + in_list * kHeapPointer, 8) + kLinePointer) / in_list;
  }
  double level = std::ceil(rows / btree_entries_per_page(bytes_per_row, fillfactor));
  double pages = 1 + level;
  while (level > 1) {
    level = std::ceil(level / btree_entries_per_page(entry + kLinePointer, kInternalFillfactor));
    pages += level;
  }
  return pages * kPage;
}

Reclaimable estimate_reclaimable(const RowKinds& counted, const HeapFile& heap,
                                 const ToastFiles& toast, const std::vector<IndexFile>& indexes) {
  Reclaimable result;
  const double per_row =
      heap.columns ? heap_bytes_per_row(*heap.columns, heap.fillfactor) : kWidestRow;
  const RowKinds rows = heap.columns ? fitting(counted, heap.bytes, per_row) : counted;
  result.at_least = !heap.columns && rows.all() > 0;
  add_heap(result, heap.bytes, rows, per_row);
  result.free -= rows.live * growth_per_row(heap, rows);
  add_toast(result, toast, rows);
  for (const IndexFile& index : indexes) add_index(result, index, rows);
  return result;
}

}  // namespace django_session
