#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace elastiform {

/// A parsed TOML value that knows where it stands. Hides the TOML library, which only recipe_document.cpp includes.
struct RecipeValue {
  enum class Kind : std::uint8_t { boolean, integer, real, text, list, table, typed };  // typed: text of --set, read as what the key wants
  Kind kind = Kind::table;
  std::string place;  // "recipe demo.toml line 5" or "--set train.rate=1"
  bool boolean = false;
  std::int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<RecipeValue> items;  // of a list or a table
  std::vector<std::string> keys;   // of a table, one an item
  bool inherited = false;          // of a resolved recipe that another one begins with: nobody typed it

  const RecipeValue* find(std::string_view key) const;
  std::string shown() const;  // for messages
};

/// `where` names the file in errors. `overrides`: "table.key=value", "stage.0.share=0.5"; the value needs no quotes. inherited: of all but these.
RecipeValue parse_recipe_document(std::string_view toml, std::string_view where, const std::vector<std::string>& overrides,
                                  bool inherited = false);

/// Reads one table key by key with defaults; finish() refuses what was never asked for, naming the nearest known key.
class TableReader {
 public:
  /// An absent table reads as an empty one.
  TableReader(const RecipeValue* table, std::string name, std::string_view where);

  std::int64_t integer(const char* key, std::int64_t fallback, std::int64_t minimum, std::int64_t maximum);
  int small_integer(const char* key, int fallback, int minimum, int maximum) {
    return static_cast<int>(integer(key, fallback, minimum, maximum));
  }
  double number(const char* key, double fallback, double minimum, double maximum);
  bool boolean(const char* key, bool fallback);
  std::string text(const char* key, const std::string& fallback);
  std::string choice(const char* key, const std::string& fallback, const std::vector<std::string_view>& values);
  std::int64_t bytes(const char* key, std::int64_t fallback);  // an integer or "16KiB"
  std::vector<int> integers(const char* key, int minimum, int maximum);
  std::vector<double> numbers(const char* key, double minimum, double maximum);
  std::vector<std::string> texts(const char* key);
  bool has(const char* key);
  bool typed(const char* key);  // there, and not inherited
  void require(const char* key);
  /// Refuses a key that was typed although nothing reads it: a mistake that silence would hide. `with`: what it goes with; chosen: what is there.
  void only_with(const char* key, bool used, const std::string& with, const std::string& chosen);
  std::string place(const char* key);  // for an InputError's `where`
  void finish() const;

 private:
  const RecipeValue* value(const char* key);
  [[noreturn]] void refuse(const RecipeValue& value, const char* key, std::string expected) const;
  std::int64_t integer_of(const RecipeValue& value, const char* key, std::int64_t minimum, std::int64_t maximum) const;
  double number_of(const RecipeValue& value, const char* key, double minimum, double maximum) const;
  std::vector<RecipeValue> list_at(const char* key, bool split);

  const RecipeValue* table_;
  std::string name_, where_;
  std::vector<std::string_view> known_;
};

}  // namespace elastiform
