#include "core/printable.h"

#include <string>

#include <doctest/doctest.h>

using dcs3gd::printable;
using dcs3gd::printable_lines;

TEST_CASE("names of all languages stay as they are") {
  for (const char* name : {"", "n01440764_18.JPEG", "a b\"c\\d", "größe", "画像", "😀", "\u00A0\u00FF"}) {
    CHECK(printable(name) == name);
  }
}

TEST_CASE("nothing moves the cursor, colours, breaks the line or turns the direction of writing") {
  CHECK(printable("a\n12:34:56 error: x\r\x1b[31m\x1b]0;y\x07\x7f\t") == "a?12:34:56 error: x??[31m?]0;y???");
  CHECK(printable(std::string("a\0b", 3)) == "a?b");
  CHECK(printable("\u009B31m\u0085") == "??31m??");
  CHECK(printable("\u2028\u202E\u2066\u200F\uFEFF") == std::string(15, '?'));
}

TEST_CASE("what is no UTF-8 is not shown") {
  CHECK(printable("\x9b"
                  "31m") == "?31m");
  CHECK(printable("\xc3") == "?");
  CHECK(printable("\xc0\x8a") == "??");  // an overlong line break
  CHECK(printable("\xe0\x80\x8a") == "???");
  CHECK(printable("\xed\xa0\x80") == "???");  // half of a surrogate pair
  CHECK(printable("\xf5\x80\x80\x80") == "????");
  CHECK(printable("a\xe2\x82") == "a??");
}

TEST_CASE("a text of several lines keeps them") { CHECK(printable_lines("a\n b\x1b\n") == "a\n b?\n"); }
