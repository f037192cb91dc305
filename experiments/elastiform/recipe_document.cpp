#include "experiments/elastiform/recipe_document.hpp"

#include <fmt/core.h>

#include <stdexcept>

// toml++ 3.3 assumes of its input what "[`" disproves: an abort with assertions, undefined behaviour without. Here its assertions throw.
[[noreturn]] inline void refuse_toml() { throw std::domain_error("no TOML"); }
#undef NDEBUG
#define TOML_ASSERT(condition) ((condition) ? static_cast<void>(0) : refuse_toml())
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kernels/errors.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {
namespace {

using Kind = RecipeValue::Kind;

RecipeValue convert(const toml::node& node, std::string_view where) {
  RecipeValue value;
  value.place = fmt::format("recipe {} line {}", where, node.source().begin.line);
  if (const auto* table = node.as_table()) {
    for (const auto& [key, item] : *table) {
      value.keys.emplace_back(key.str());
      value.items.push_back(convert(item, where));
    }
  } else if (const auto* list = node.as_array()) {
    value.kind = Kind::list;
    for (const auto& item : *list) value.items.push_back(convert(item, where));
  } else if (const auto* text = node.as_string()) {
    value.kind = Kind::text;
    value.text = text->get();
  } else if (const auto* integer = node.as_integer()) {
    value.kind = Kind::integer;
    value.integer = integer->get();
  } else if (const auto* real = node.as_floating_point()) {
    value.kind = Kind::real;
    value.real = real->get();
  } else if (const auto* boolean = node.as_boolean()) {
    value.kind = Kind::boolean;
    value.boolean = boolean->get();
  } else {
    throw InputError({value.place, "text, a number, true or false, a list or a table", "a date or time", ""});
  }
  return value;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0;;) {
    const auto end = text.find(separator, begin);
    parts.push_back(text.substr(begin, end - begin));
    if (end == std::string::npos) return parts;
    begin = end + 1;
  }
}

template <class Number>
bool read_number(const std::string& text, Number& value) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && stop == text.data() + text.size() && !text.empty();
}

void override_value(RecipeValue& document, const std::string& text) {
  const auto equals = text.find('=');
  const auto path = split(text.substr(0, equals), '.');
  const auto where = "--set " + text;
  if (equals == std::string::npos || path.size() < 2)
    throw InputError({where, "table.key=value", "'" + text + "'", "for example --set train.rate=1e-3"});
  auto* value = &document;
  for (const auto& step : path) {
    if (value->kind == Kind::list) {
      std::size_t index = 0;
      if (!read_number(step, index) || index >= value->items.size())
        throw InputError({where, fmt::format("an index from 0 to {}", value->items.size() - 1), step, ""});
      value = &value->items[index];
      continue;
    }
    if (value->kind != Kind::table) throw InputError({where, "table.key=value", "a key inside a value", ""});
    const auto at = std::find(value->keys.begin(), value->keys.end(), step);
    const auto index = static_cast<std::size_t>(at - value->keys.begin());
    if (at == value->keys.end()) {  // a key nobody knows is found by TableReader::finish()
      value->keys.push_back(step);
      value->items.emplace_back();
      value->items.back().place = where;
    }
    value = &value->items[index];
  }
  if (value->kind == Kind::table && !value->items.empty()) throw InputError({where, "a key of the table", "the whole table", ""});
  *value = RecipeValue{};
  value->kind = Kind::typed;
  value->place = where;
  value->text = text.substr(equals + 1);
}

}  // namespace

const RecipeValue* RecipeValue::find(std::string_view key) const {
  for (std::size_t i = 0; i < keys.size(); ++i)
    if (keys[i] == key) return &items[i];
  return nullptr;
}

std::string RecipeValue::shown() const {
  switch (kind) {
    case Kind::boolean: return boolean ? "true" : "false";
    case Kind::integer: return std::to_string(integer);
    case Kind::real: return fmt::format("{}", real);
    case Kind::text:
    case Kind::typed: return "'" + text.substr(0, 200) + "'";
    case Kind::list: return fmt::format("a list of {}", items.size());
    case Kind::table: return "a table";
  }
  return "";
}

namespace {

/// The end of the string that begins at `begin` with a quote; one that has no end ends with its line, and the parser says so.
std::size_t end_of_string(std::string_view toml, std::size_t begin) {
  const char quote = toml[begin];
  const std::string three(3, quote);
  const bool lines = toml.substr(begin, 3) == three;
  std::size_t i = begin + (lines ? 3 : 1);
  for (; i < toml.size(); ++i) {
    if (quote == '"' && toml[i] == '\\') ++i;
    else if (lines && toml.substr(i, 3) == three)
      return std::min(toml.find_first_not_of(quote, i), i + 5);  // """"" ends with two quotes of its own
    else if (!lines && (toml[i] == quote || toml[i] == '\n')) return i + 1;
  }
  return toml.size();
}

/// TOML has letters beyond ASCII in strings and comments only; elsewhere toml++ 3.3 reaches code that it declares unreachable.
void refuse_foreign_letters(std::string_view toml, std::string_view where) {
  std::size_t i = toml.starts_with("\xEF\xBB\xBF") ? 3 : 0;
  while (i < toml.size()) {
    if (toml[i] == '#') i = std::min(toml.find('\n', i), toml.size());
    else if (toml[i] == '"' || toml[i] == '\'') i = end_of_string(toml, i);
    else if (static_cast<unsigned char>(toml[i]) >= 0x80)
      throw InputError(
          {fmt::format("recipe {} line {}", where, 1 + std::count(toml.begin(), toml.begin() + static_cast<std::ptrdiff_t>(i), '\n')),
           "letters beyond ASCII inside quotes or comments", "one outside", ""});
    else ++i;
  }
}

}  // namespace

namespace {

void inherit(RecipeValue& value) {
  value.inherited = true;
  for (RecipeValue& item : value.items) inherit(item);
}

}  // namespace

RecipeValue parse_recipe_document(std::string_view toml, std::string_view where, const std::vector<std::string>& overrides,
                                  bool inherited) {
  refuse_foreign_letters(toml, where);
  try {
    auto document = convert(toml::parse(toml, where), where);
    if (inherited) inherit(document);
    for (const auto& text : overrides) override_value(document, text);
    return document;
  } catch (const std::domain_error&) {
    throw InputError({fmt::format("recipe {}", where), "TOML", "a key or table header that begins with another character", ""});
  } catch (const toml::parse_error& error) {
    const auto at = error.source().begin;
    throw InputError({fmt::format("recipe {} line {} column {}", where, at.line, at.column), "", std::string(error.description()), ""});
  }
}

TableReader::TableReader(const RecipeValue* table, std::string name, std::string_view where)
    : table_(table), name_(std::move(name)), where_(where) {
  if (table_ != nullptr && table_->kind != Kind::table) throw InputError({table_->place + ": " + name_, "a table", table_->shown(), ""});
}

const RecipeValue* TableReader::value(const char* key) {
  if (std::find(known_.begin(), known_.end(), key) == known_.end()) known_.emplace_back(key);
  return table_ == nullptr ? nullptr : table_->find(key);
}

std::string TableReader::place(const char* key) {
  const auto* found = value(key);
  return fmt::format("{}: {}.{}", found != nullptr ? found->place : "recipe " + where_, name_, key);
}

void TableReader::refuse(const RecipeValue& value, const char* key, std::string expected) const {
  throw InputError({fmt::format("{}: {}.{}", value.place, name_, key), std::move(expected), value.shown(), ""});
}

bool TableReader::has(const char* key) { return value(key) != nullptr; }
void TableReader::only_with(const char* key, bool used, const std::string& with, const std::string& chosen) {
  if (typed(key) && !used)
    throw InputError({place(key), "only with " + with, chosen, fmt::format("remove {}, or choose what uses it", key)});
}

bool TableReader::typed(const char* key) {
  const RecipeValue* const found = value(key);
  return found != nullptr && !found->inherited;
}

void TableReader::require(const char* key) {
  if (!has(key)) throw InputError({fmt::format("recipe {}: {}.{}", where_, name_, key), "a value", "nothing", "see docs/recipes.md"});
}

std::int64_t TableReader::integer_of(const RecipeValue& value, const char* key, std::int64_t minimum, std::int64_t maximum) const {
  std::int64_t number = value.integer;
  const bool is_integer = value.kind == Kind::integer || (value.kind == Kind::typed && read_number(value.text, number));
  if (!is_integer || number < minimum || number > maximum) refuse(value, key, fmt::format("an integer from {} to {}", minimum, maximum));
  return number;
}

double TableReader::number_of(const RecipeValue& value, const char* key, double minimum, double maximum) const {
  double number = value.kind == Kind::integer ? static_cast<double>(value.integer) : value.real;
  const bool is_number =
      value.kind == Kind::integer || value.kind == Kind::real || (value.kind == Kind::typed && read_number(value.text, number));
  if (!is_number || !(number >= minimum && number <= maximum)) refuse(value, key, fmt::format("a number from {} to {}", minimum, maximum));
  return number;
}

std::int64_t TableReader::integer(const char* key, std::int64_t fallback, std::int64_t minimum, std::int64_t maximum) {
  const auto* found = value(key);
  return found == nullptr ? fallback : integer_of(*found, key, minimum, maximum);
}

double TableReader::number(const char* key, double fallback, double minimum, double maximum) {
  const auto* found = value(key);
  return found == nullptr ? fallback : number_of(*found, key, minimum, maximum);
}

bool TableReader::boolean(const char* key, bool fallback) {
  const auto* found = value(key);
  if (found == nullptr) return fallback;
  if (found->kind == Kind::boolean) return found->boolean;
  if (found->kind != Kind::typed || (found->text != "true" && found->text != "false")) refuse(*found, key, "true or false");
  return found->text == "true";
}

std::string TableReader::text(const char* key, const std::string& fallback) {
  const auto* found = value(key);
  if (found == nullptr) return fallback;
  if (found->kind != Kind::text && found->kind != Kind::typed) refuse(*found, key, "text");
  return found->text;
}

std::string TableReader::choice(const char* key, const std::string& fallback, const std::vector<std::string_view>& values) {
  const auto chosen = text(key, fallback);
  if (std::find(values.begin(), values.end(), chosen) == values.end()) throw unknown_name(place(key), chosen, values);
  return chosen;
}

std::int64_t TableReader::bytes(const char* key, std::int64_t fallback) {
  const auto* found = value(key);
  if (found == nullptr) return fallback;
  constexpr std::int64_t kMaximum = std::int64_t{1} << 40;
  if (found->kind == Kind::integer) return integer_of(*found, key, 1, kMaximum);
  std::int64_t unit = 1;
  auto digits = found->text;
  const std::string_view suffixes[] = {"KiB", "MiB", "GiB"};
  for (int i = 0; i < 3; ++i)
    if (digits.size() > 3 && digits.substr(digits.size() - 3) == suffixes[i]) {
      digits.resize(digits.size() - 3);
      unit = std::int64_t{1} << (10 * (i + 1));
      break;
    }
  std::int64_t number = 0;
  if (!read_number(digits, number) || number < 1 || number > kMaximum / unit) refuse(*found, key, "bytes such as 16384 or 16KiB");
  return number * unit;
}

// On the command line a list needs no brackets: 64,96,128.
std::vector<RecipeValue> TableReader::list_at(const char* key, bool split_typed) {
  const auto* found = value(key);
  if (found == nullptr) return {};
  if (found->kind == Kind::list) return found->items;
  if (found->kind != Kind::typed) refuse(*found, key, "a list");
  std::vector<RecipeValue> items;
  for (const auto& part : split_typed ? split(found->text, ',') : std::vector<std::string>{found->text}) {
    items.push_back(*found);
    items.back().text = part;
  }
  return items;
}

std::vector<int> TableReader::integers(const char* key, int minimum, int maximum) {
  std::vector<int> values;
  for (const auto& item : list_at(key, true)) values.push_back(static_cast<int>(integer_of(item, key, minimum, maximum)));
  return values;
}

std::vector<double> TableReader::numbers(const char* key, double minimum, double maximum) {
  std::vector<double> values;
  for (const auto& item : list_at(key, true)) values.push_back(number_of(item, key, minimum, maximum));
  return values;
}

// Not split at commas: inside a budget a comma joins limits.
std::vector<std::string> TableReader::texts(const char* key) {
  std::vector<std::string> values;
  for (const auto& item : list_at(key, false)) {
    if (item.kind != Kind::text && item.kind != Kind::typed) refuse(item, key, "a list of texts");
    values.push_back(item.text);
  }
  return values;
}

void TableReader::finish() const {
  if (table_ == nullptr) return;
  for (std::size_t i = 0; i < table_->keys.size(); ++i)
    if (std::find(known_.begin(), known_.end(), table_->keys[i]) == known_.end())
      throw unknown_name(fmt::format("{}: {}{}", table_->items[i].place, name_.empty() ? "" : name_ + ".", table_->keys[i]),
                         table_->keys[i], known_);
}

}  // namespace elastiform
