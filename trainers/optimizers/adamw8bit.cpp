#include "trainers/optimizers/adamw8bit.hpp"

#include <algorithm>

#include "trainers/optimizers/adamw.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kLeastCoded = 4096;  // elements of a tensor

bool is_coded(const TensorSpec& tensor) { return decays(tensor) && tensor.rows * tensor.columns >= kLeastCoded; }
std::int64_t elements_of(const TensorSpec& tensor) { return tensor.trained ? tensor.rows * tensor.ld : 0; }

/// Rows of a piece of a band: whole blocks of codes.
std::int64_t piece_rows(const BandRectangle& band) {
  const std::int64_t block = CodeBlocks(band.rows, band.columns).rows;
  return std::max<std::int64_t>(1, kRectangleElements / band.columns / block) * block;
}

}  // namespace

Adamw8bitOptimizer::Places Adamw8bitOptimizer::places_of(const WeightTable& table) {
  Places places;
  for (const TensorSpec& tensor : table.tensors()) {
    const bool coded = is_coded(tensor);
    places.codes.push_back(coded ? places.code_count : -1);
    places.wide.push_back(coded ? -1 : places.wide_count);
    (coded ? places.code_count : places.wide_count) += elements_of(tensor);
  }
  for_each_band(table, [&](const BandRectangle& band) {
    places.scales.push_back(places.scale_count);
    if (is_coded(*band.tensor)) places.scale_count += CodeBlocks(band.rows, band.columns).count();
  });
  return places;
}

Adamw8bitOptimizer::Adamw8bitOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
    : options_(options), table_(std::move(table)), clocks_(options, rule_of(options), *table_), places_(places_of(*table_)),
      m_codes_(places_.code_count, DType::uint8, backend.memory()), v_codes_(places_.code_count, DType::uint8, backend.memory()),
      m_scales_(places_.scale_count, backend.dtype(), backend.memory()), v_scales_(places_.scale_count, backend.dtype(), backend.memory()),
      m_(places_.wide_count, backend.dtype(), backend.memory()), v_(places_.wide_count, backend.dtype(), backend.memory()) {
  std::size_t pieces = 0;
  for_each_band(*table_, [&](const BandRectangle& band) {
    if (is_coded(*band.tensor)) pieces += static_cast<std::size_t>((band.rows + piece_rows(band) - 1) / piece_rows(band));
  });
  pieces_.reserve(pieces), rectangles_.reserve(most_band_rectangles(*table_));
}

std::size_t Adamw8bitOptimizer::number_of(const BandRectangle& rectangle) const {
  return static_cast<std::size_t>(rectangle.tensor - table_->tensors().data());
}

void Adamw8bitOptimizer::list_pieces(const WeightTable& table, const ActiveBands& active) {
  pieces_.clear();
  for_each_band(table, [&](const BandRectangle& band) {
    if (!is_coded(*band.tensor) || !clocks_.moves(band.band, active)) return;
    std::int64_t scale = places_.scales[static_cast<std::size_t>(band.band)];
    for (std::int64_t first = 0; first < band.rows; first += piece_rows(band)) {
      BandRectangle piece = band;
      piece.row = band.row + first, piece.rows = std::min(piece_rows(band), band.rows - first);
      pieces_.push_back({piece, scale});
      scale += CodeBlocks(piece.rows, piece.columns).count();
    }
  });
  clocks_.rectangles(table, active, rectangles_);
  std::erase_if(rectangles_, [](const BandRectangle& r) { return is_coded(*r.tensor); });
}

void Adamw8bitOptimizer::step_coded(Backend& backend, Weights& weights, ConstView gradient, const Piece& piece, double gradient_scale) {
  const BandRectangle& r = piece.rectangle;
  const BandClocks::Band& c = clocks_[r.band];
  const std::int64_t at = places_.codes[number_of(r)] + r.row * r.tensor->ld + r.column, blocks = CodeBlocks(r.rows, r.columns).count();
  const View m_scale = m_scales_.row(piece.scale, blocks), v_scale = v_scales_.row(piece.scale, blocks);
  fade(backend, c, m_scale, v_scale);  // what fades all elements alike fades their scale
  backend.adamw_8bit({.weight = r.of(weights),
                      .m = m_codes_.matrix(at, r.rows, r.columns, r.tensor->ld),
                      .v = v_codes_.matrix(at, r.rows, r.columns, r.tensor->ld),
                      .m_scale = m_scale,
                      .v_scale = v_scale,
                      .gradient = gradient,
                      .rate = c.rate * r.tensor->rate,
                      .beta1 = options_.beta1,
                      .beta2 = options_.beta2,
                      .eps = options_.eps,
                      .decay = decays(*r.tensor) ? options_.decay : 0,
                      .correction1 = c.first,
                      .correction2 = c.second,
                      .gradient_scale = gradient_scale});
}

void Adamw8bitOptimizer::step_wide(Backend& backend, Weights& weights, ConstView gradient, const BandRectangle& r, double gradient_scale) {
  const std::int64_t at = places_.wide[number_of(r)] + r.row * r.tensor->ld + r.column;
  adamw_step(backend, options_, clocks_[r.band], *r.tensor,
             {.weight = r.of(weights),
              .m = m_.matrix(at, r.rows, r.columns, r.tensor->ld),
              .v = v_.matrix(at, r.rows, r.columns, r.tensor->ld),
              .gradient = gradient,
              .gradient_scale = gradient_scale});
}

void Adamw8bitOptimizer::update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) {
  clocks_.advance(active, step);
  list_pieces(*table_, active);
  const auto gradient_of = [&](const BandRectangle& r) { return active[r.band] ? r.of(gradients) : ConstView{}; };
  const auto coded = static_cast<std::int64_t>(pieces_.size()), wide = static_cast<std::int64_t>(rectangles_.size());
  backend.for_each(coded + wide, [&](std::int64_t i) {
    if (i < coded) {
      const Piece& piece = pieces_[static_cast<std::size_t>(i)];
      step_coded(backend, weights, gradient_of(piece.rectangle), piece, step.gradient_scale);
    } else {
      const BandRectangle& r = rectangles_[static_cast<std::size_t>(i - coded)];
      step_wide(backend, weights, gradient_of(r), r, step.gradient_scale);
    }
  });
}

std::map<std::string, StateArray*> Adamw8bitOptimizer::arrays() {
  std::map<std::string, StateArray*> named{
      {"m_codes", &m_codes_}, {"v_codes", &v_codes_}, {"m_scales", &m_scales_}, {"v_scales", &v_scales_}, {"m", &m_}, {"v", &v_}};
  std::erase_if(named, [](const auto& one) { return one.second->count() == 0; });  // all, or no tensor is coded
  return named;
}

std::int64_t Adamw8bitOptimizer::bytes() const {
  return m_codes_.bytes() + v_codes_.bytes() + m_scales_.bytes() + v_scales_.bytes() + m_.bytes() + v_.bytes() + clocks_.bytes();
}

std::int64_t Adamw8bitOptimizer::state_bytes(const TrainOptions& options, const WeightTable& table) {
  const Places places = places_of(table);
  return 2 * (places.code_count + (places.scale_count + places.wide_count) * bytes_of(DType::float32)) +
         BandClocks::state_bytes(options, rule_of(options), table.band_count());
}

}  // namespace elastiform
