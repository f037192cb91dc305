#include "search/latency_table.hpp"

#include <unistd.h>
#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "kernels/cpu/identity.hpp"
#include "kernels/errors.hpp"
#include "search/latency_file.hpp"
#include "supernet/sha256.hpp"

namespace elastiform {
namespace {

constexpr double kPicoseconds = 1e9;  // of a millisecond

std::int64_t picoseconds(double milliseconds) { return std::llround(milliseconds * kPicoseconds); }

const LatencyTable::Frame* find_frame(const LatencyTable& table, int embed) {
  const auto found = std::ranges::find(table.frames, embed, &LatencyTable::Frame::embed);
  return found == table.frames.end() ? nullptr : &*found;
}
const LatencyTable::Attention* find_attention(const LatencyTable& table, int embed, int heads, int groups) {
  const auto found = std::ranges::find_if(
      table.attentions, [&](const auto& row) { return row.embed == embed && row.heads == heads && row.groups == groups; });
  return found == table.attentions.end() ? nullptr : &*found;
}
const LatencyTable::FeedForward* find_feed_forward(const LatencyTable& table, int embed, int ffn) {
  const auto found = std::ranges::find_if(table.feed_forwards, [&](const auto& row) { return row.embed == embed && row.ffn == ffn; });
  return found == table.feed_forwards.end() ? nullptr : &*found;
}

struct Point {
  double size = 0, time = 0;
};
struct Line {
  double constant = 0, slope = 0;
  double at(double size) const { return constant + slope * size; }
};

/// Least squares of relative errors; the slope is at least 0, and of one size the line through the origin.
Line line_through(const std::vector<Point>& points) {
  double w = 0, wx = 0, wy = 0, wxx = 0, wxy = 0;
  for (const Point& p : points) {
    const double weight = 1 / (p.time * p.time);
    w += weight, wx += weight * p.size, wy += weight * p.time, wxx += weight * p.size * p.size, wxy += weight * p.size * p.time;
  }
  if (points.empty()) return {};
  const double spread = w * wxx - wx * wx;
  if (!(spread > 1e-12 * w * wxx)) return {.constant = 0, .slope = wxy / wxx};
  const double slope = std::max(0.0, (w * wxy - wx * wy) / spread);
  const double constant = (wy - slope * wx) / w;
  // A constant below 0 would make small shapes cheaper than nothing.
  if (constant < 0) return {.constant = 0, .slope = wxy / wxx};
  return {.constant = constant, .slope = slope};
}

double most_above(const Line& line, const std::vector<Point>& points) {
  double most = 0;
  for (const Point& p : points) most = std::max(most, p.time / line.at(p.size) - 1);
  return most;
}

/// Distinct choices of all blocks but 0, which has no row.
std::vector<int> choices(const SearchSpace& space, bool heads, int embed) {
  std::vector<int> all;
  for (const SearchSpace::Block& block : space.blocks()) {
    const std::vector<int>& some = heads ? block.heads : block.ffn.at(embed);
    all.insert(all.end(), some.begin(), some.end());
  }
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  std::erase(all, 0);
  return all;
}

/// Before anything is added up in integers.
void check_sums(const LatencyModel& model, const SearchSpace& space, const std::string& label) {
  if (!(model.guard <= kMostGuard))
    throw InputError({"latency table " + label,
                      "networks within " + std::to_string(static_cast<int>(kMostGuard)) + " times their prediction",
                      std::to_string(model.guard), "measure the table again"});
  for (const LatencyLine& line : model.lines) {
    int heads = 0, ffn = 0;
    for (const int choice : choices(space, true, line.embed)) heads = std::max(heads, choice);
    for (const int choice : choices(space, false, line.embed)) ffn = std::max(ffn, choice);
    const auto real = [](std::int64_t value) { return static_cast<double>(value); };
    const double block = real(line.attention) + real(line.head) * heads + real(line.feed_forward) + real(line.column) * ffn;
    const double sum = real(line.frame) + space.max_depth() * block;
    const double most = std::max(sum, whole_at(model.knots, sum) * (1 + model.guard));
    if (!(most < 0x1p62))
      throw InputError({"latency table " + label, "networks of less than 2^62 ps, 53 days, with the guard band",
                        std::to_string(most / kPicoseconds) + " ms at embed " + std::to_string(line.embed), "measure the table again"});
  }
}

/// Through the calibration, over sums of the model's lines.
std::vector<LatencyKnot> knots_over(const LatencyModel& lines, const LatencyTable& table) {
  std::vector<LatencyKnot> whole;
  for (const LatencyTable::Network& network : table.calibration) {
    const LatencyKnot one{static_cast<double>(lines.sum_of(network.subnet)), network.time.median * kPicoseconds};
    if (!(one.whole < one.sum * kMostGuard && one.sum < one.whole * kMostGuard))
      throw InputError({"latency table " + table.label(),
                        "whole networks within " + std::to_string(static_cast<int>(kMostGuard)) + " times the sum of their parts",
                        format(network.subnet) + " with " + std::to_string(one.whole / one.sum), "measure the table again"});
    whole.push_back(one);
  }
  return knots_through(std::move(whole));
}

/// The share by which 95 % of these networks are at most slower than predicted.
double missed_by(const LatencyModel& model, std::span<const LatencyTable::Network> networks) {
  std::vector<double> predicted, measured;
  for (const LatencyTable::Network& network : networks) {
    predicted.push_back(line_of(model, network.subnet));
    measured.push_back(network.time.median);
  }
  return error_of(predicted, measured).under;
}

}  // namespace

std::string Machine::hash() const {
  return sha256_hex(processor + "\n" + isa + "\n" + std::to_string(cores) + (accelerator.empty() ? "" : "\n" + accelerator)).substr(0, 16);
}

Machine this_machine() {
  return {.processor = processor_name(), .isa = isa_name(Precision::f32), .cores = static_cast<int>(sysconf(_SC_NPROCESSORS_CONF))};
}

std::string LatencyTable::label() const {
  const std::string where = machine.processor.empty() ? "" : " on " + machine.processor;
  return (imported ? "imported: " : "") + source + where +
         (device == "cpu" ? "" : ", " + (machine.accelerator.empty() ? device : machine.accelerator));
}

std::string LatencyTable::missing(const SearchSpace& space) const {
  std::string first;
  std::size_t count = 0;
  const auto miss = [&](std::string shape) {
    if (count++ == 0) first = std::move(shape);
  };
  const int queries = space.model().queries_per_group;
  for (const int embed : space.embed()) {
    const std::string at = "embed " + std::to_string(embed);
    if (find_frame(*this, embed) == nullptr) miss(at);
    for (const int heads : choices(space, true, embed))
      if (find_attention(*this, embed, heads, heads / queries) == nullptr)
        miss(at + ", heads " + std::to_string(heads) + ", groups " + std::to_string(heads / queries));
    for (const int ffn : choices(space, false, embed))
      if (find_feed_forward(*this, embed, ffn) == nullptr) miss(at + ", ffn " + std::to_string(ffn));
  }
  return count == 0 ? "" : std::to_string(count) + " shapes without a row, the first " + first;
}

double LatencyTable::sum_of(const Subnet& subnet, double Milliseconds::*which) const {
  const Frame& frame = *find_frame(*this, subnet.embed);
  double sum = frame.embedding.*which + frame.head.*which;
  for (const BlockGenes& genes : subnet.blocks) {
    if (genes.heads > 0) sum += find_attention(*this, subnet.embed, genes.heads, genes.groups)->time.*which;
    if (genes.ffn > 0) sum += find_feed_forward(*this, subnet.embed, genes.ffn)->time.*which;
  }
  return sum;
}

std::vector<double> LatencyTable::predictions(std::span<const Subnet> subnets, double Milliseconds::*which) const {
  std::vector<LatencyKnot> whole;
  for (const Network& network : calibration) whole.push_back({sum_of(network.subnet, which), network.time.*which});
  const std::vector<LatencyKnot> knots = knots_through(std::move(whole));
  std::vector<double> predicted;
  for (const Subnet& subnet : subnets) predicted.push_back(whole_at(knots, sum_of(subnet, which)));
  return predicted;
}

PredictionError error_of(const std::vector<double>& predicted, const std::vector<double>& measured) {
  PredictionError error;
  std::vector<double> above;
  for (std::size_t i = 0; i < predicted.size(); ++i) {
    const double off = std::abs(predicted[i] / measured[i] - 1);
    error.mean += off / static_cast<double>(predicted.size());
    error.worst = std::max(error.worst, off);
    above.push_back(measured[i] / predicted[i] - 1);
  }
  if (above.empty()) return error;
  std::ranges::sort(above);
  const double rank = std::ceil(0.95 * static_cast<double>(above.size())) - 1;
  error.under = std::max(0.0, above[static_cast<std::size_t>(rank)]);
  return error;
}

LatencyModel latency_lines(const LatencyTable& table, const SearchSpace& space) {
  LatencyModel model;
  double most = 0;
  const int queries = space.model().queries_per_group;
  for (const int embed : space.embed()) {
    std::vector<Point> attention, feed_forward;
    for (const int heads : choices(space, true, embed))
      attention.push_back({static_cast<double>(heads), find_attention(table, embed, heads, heads / queries)->time.median});
    for (const int ffn : choices(space, false, embed))
      feed_forward.push_back({static_cast<double>(ffn), find_feed_forward(table, embed, ffn)->time.median});
    const Line of_heads = line_through(attention), of_columns = line_through(feed_forward);
    most = std::max({most, most_above(of_heads, attention), most_above(of_columns, feed_forward)});
    const LatencyTable::Frame& frame = *find_frame(table, embed);
    model.lines.push_back({.embed = embed,
                           .frame = picoseconds(frame.embedding.median + frame.head.median),
                           .attention = picoseconds(of_heads.constant),
                           .head = picoseconds(of_heads.slope),
                           .feed_forward = picoseconds(of_columns.constant),
                           .column = picoseconds(of_columns.slope)});
  }
  model.knots = knots_over(model, table);
  const bool judged = !table.networks.empty();
  const double missed = missed_by(model, judged ? table.networks : table.calibration);
  model.guard = std::max({kLeastGuard, missed, judged ? 0 : most_apart(model.knots, most)});
  check_sums(model, space, table.label());
  model.origin = table.label();
  model.device = table.device;
  model.imported = table.imported;
  model.hash = sha256_hex(latency_text(table)).substr(0, 16);
  return model;
}

double line_of(const LatencyModel& model, const Subnet& subnet) { return static_cast<double>(model.of(subnet)) / kPicoseconds; }

}  // namespace elastiform
