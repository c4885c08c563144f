#include "app/job/build_id.h"

#include <bit>
#include <cstddef>
#include <cstring>
#include <string_view>

#include <elf.h>
#include <link.h>

#include "core/format.h"

namespace dcs3gd::app {
namespace {

constexpr std::size_t kNoteAlignment = 4;

std::size_t padded(std::size_t bytes) { return (bytes + kNoteAlignment - 1) / kNoteAlignment * kNoteAlignment; }

/// The build id among the notes; empty if it is not there.
std::string find_build_id(std::string_view notes) {
  while (notes.size() >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) note;
    std::memcpy(&note, notes.data(), sizeof(note));
    notes.remove_prefix(sizeof(note));
    const std::size_t size = padded(note.n_namesz) + padded(note.n_descsz);
    if (size > notes.size()) break;
    if (note.n_type == NT_GNU_BUILD_ID && notes.starts_with(ELF_NOTE_GNU)) {
      std::string text;
      for (const char byte : notes.substr(padded(note.n_namesz), note.n_descsz)) {
        text += format("{:02x}", static_cast<unsigned char>(byte));
      }
      return text;
    }
    notes.remove_prefix(size);
  }
  return {};
}

}  // namespace

std::string build_id() {
  std::string found;
  dl_iterate_phdr(
      [](dl_phdr_info* object, std::size_t, void* result) {
        for (std::size_t i = 0; i < object->dlpi_phnum; ++i) {
          const auto& segment = object->dlpi_phdr[i];
          auto& id = *static_cast<std::string*>(result);
          if (segment.p_type != PT_NOTE || !id.empty()) continue;
          id = find_build_id({std::bit_cast<const char*>(object->dlpi_addr + segment.p_vaddr), segment.p_memsz});
        }
        return 1;  // the program itself comes first
      },
      &found);
  return found;
}

}  // namespace dcs3gd::app
