#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "search/result_store.hpp"

namespace elastiform {

/// One round as the journal keeps it.
struct StoredRound {
  SearchDescription search;
  std::int64_t round = 0;
  std::vector<Evaluation> added;      // evaluations that this round brought, ids ascending
  std::vector<std::int64_t> members;  // ids of all its evaluations, in order
};
std::string encode_round(const StoredRound& round);
/// InputError (where: `path`) when the record is not one of ours.
StoredRound decode_round(std::string_view record, const std::string& path);

/// Everything in results.h5.
struct StoredResults {
  struct Round {
    std::string search;  // name
    std::int64_t round = 0, first_id = 0, count = 0;
    std::vector<std::int64_t> members;
  };
  std::string space_hash, recipe;
  std::vector<Evaluation> evaluations;      // ids 1, 2, 3, …
  std::vector<SearchDescription> searches;  // in order of their first round
  std::vector<Round> rounds;                // in order of time
};
void write_results(const StoredResults& results, const std::string& path);
/// InputError for damaged files.
StoredResults read_results(const std::string& path);

}  // namespace elastiform
