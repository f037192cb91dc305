#pragma once

// The one place that knows Catch2's version (Debian 12: v2).
#include <catch2/catch.hpp>  // IWYU pragma: export
