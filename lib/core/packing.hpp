// How many bytes of a file values take that are written one after the other, by simulating it.
// Pure.
#pragma once

namespace django_session {

/// Sizes in bytes: their mean and standard deviation.
struct SizeSpread {
  double mean = 0, deviation = 0;
};

/// A row in a heap. `tuples` have their header and alignment; the fill factor is in percent.
double heap_bytes_for_each(const SizeSpread& tuples, double fillfactor);

/// What a value in a TOAST table takes, and its number of chunks. `values`: as stored, after
/// compression.
struct ToastedValue {
  double bytes = 0, chunks = 0;
};
ToastedValue toasted_value(const SizeSpread& values);

}  // namespace django_session
