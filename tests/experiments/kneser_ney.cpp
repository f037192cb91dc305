#include "experiments/bench/byte_models/kneser_ney.hpp"

#include <cmath>
#include <string>
#include <string_view>

#include "kernels/random.hpp"
#include "tests/support/catch.hpp"

using namespace elastiform;

namespace {

ByteSpan bytes_of(std::string_view text) { return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()}; }

// Words of a small vocabulary: regular enough that counts of 1, 2, 3 and 4 all occur at every level.
std::string words(std::uint64_t seed, int count) {
  const char* vocabulary[] = {"and ", "the ",   "lord ",  "said ", "unto ", "moses ", "land ",
                              "of ",  "egypt ", "shall ", "be ",   "in ",   "zeal "};
  RandomStream random(seed, Purpose::test);
  std::string text;
  for (int i = 0; i < count; ++i) {
    const double u = random.uniform();  // the square makes late words rare
    text += vocabulary[static_cast<std::size_t>(u * u * 13)];
  }
  return text;
}

}  // namespace

TEST_CASE("every Kneser-Ney distribution sums to one, whatever the context", "[experiments]") {
  const std::string text = words(1, 400);
  const KneserNey model({bytes_of(text), bytes_of("a short second stretch")}, 7);
  const auto order = GENERATE(1, 2, 3, 5, 7);
  const auto context = GENERATE(as<std::string>{}, "", "a", "and th", "zzzzzzz", "lord said", "\xff\x00q");
  CAPTURE(order, context);
  double sum = 0;
  for (int next = 0; next < 256; ++next) {
    const double p = model.probability(order, bytes_of(context), static_cast<std::uint8_t>(next));
    CHECK(p > 0);
    sum += p;
  }
  CHECK(sum == Approx(1).epsilon(1e-12));
}

TEST_CASE("Kneser-Ney of order 2 agrees with the formula worked by hand", "[experiments]") {
  // Pairs of "abababac": ab 3, ba 3, ac 1. Few counts of counts, so every discount is the fallback of one half or known:
  // pairs: t1 = 1, t2 = 0, t3 = 2; the discount of 3 is 1/2 (t4 = 0), of 1 is 1/2 (t2 = 0).
  // Continuations: a after {b} 1, b after {a} 1, c after {a} 1: t1 = 3, t2 = 0, discount 1/2, total 3.
  const KneserNey model({bytes_of("abababac")}, 2);
  const double unigram_b = (1 - 0.5) / 3 + (3 * 0.5 / 3) / 256;
  const double b_after_a = (3 - 0.5) / 4 + (2 * 0.5 / 4) * unigram_b;
  CHECK(model.probability(2, bytes_of("a"), 'b') == Approx(b_after_a).epsilon(1e-14));
  const double c_after_a = (1 - 0.5) / 4 + (2 * 0.5 / 4) * unigram_b;
  CHECK(model.probability(2, bytes_of("xya"), 'c') == Approx(c_after_a).epsilon(1e-14));
  CHECK(model.probability(2, bytes_of("q"), 'b') == Approx(unigram_b).epsilon(1e-14));
  CHECK(model.bits(2, bytes_of("ab")) == Approx(-std::log2(b_after_a)).epsilon(1e-14));
}

TEST_CASE("contexts never cross stretches", "[experiments]") {
  // Joined, "xy" would have been seen; apart, y has followed only z.
  const KneserNey joined({bytes_of("zyzyzyzyx"), bytes_of("yzyzyzyz")}, 2);
  const KneserNey seen({bytes_of("zyzyzyzyxyzyzyzyz")}, 2);
  CHECK(joined.probability(2, bytes_of("x"), 'y') < seen.probability(2, bytes_of("x"), 'y'));
}

TEST_CASE("a higher order helps on text from the same source and all orders beat no model", "[experiments]") {
  const std::string text = words(1, 3000), other = words(2, 500);
  const KneserNey model({bytes_of(text)}, 5);
  const double bytes = static_cast<double>(other.size() - 1);
  const double order1 = model.bits(1, bytes_of(other)) / bytes, order3 = model.bits(3, bytes_of(other)) / bytes;
  const double order5 = model.bits(5, bytes_of(other)) / bytes;
  CHECK(order1 < 8);
  CHECK(order3 < order1 - 0.5);
  CHECK(order5 < order3);
  CHECK(model.grams(5) > model.grams(3));
}

TEST_CASE("Kneser-Ney refuses an order it cannot pack", "[experiments]") {
  CHECK_THROWS_AS(KneserNey({bytes_of("abc")}, 9), std::logic_error);
  CHECK_THROWS_AS(KneserNey({bytes_of("abc")}, 0), std::logic_error);
}
