#include "app/agreement.h"

#include <exception>
#include <string>

#include "core/format.h"
#include "core/log.h"

namespace dcs3gd::app {
namespace {

/// An error as a blob: a digit for its kind, then the message. Empty: none.
std::string pack(const std::optional<Error>& error) {
  return error ? format("{}{}", error->exit_code(), error->what()) : "";
}

Error unpack(const std::string& blob, const std::string& origin) {
  return {static_cast<ErrorKind>(blob.front() - '0'), origin + blob.substr(1), Extent::all_ranks};
}

}  // namespace

std::optional<Error> attempt(const std::function<void()>& task) {
  try {
    task();
    return std::nullopt;
  } catch (const Error& error) {
    return error;
  } catch (const std::exception& error) {
    return Error(ErrorKind::failure, error.what());
  }
}

void agree(comm::Communicator& communicator, const std::optional<Error>& mine) {
  const std::vector<std::string> blobs = communicator.all_gather(pack(mine));
  for (std::size_t rank = 0; rank < blobs.size(); ++rank) {
    if (blobs[rank].empty()) continue;
    // What rank 0 meets is mostly met by all; what another rank meets before it says something about that rank.
    const std::string origin = rank == 0 ? "" : format("rank {} on {}: ", rank, communicator.places()[rank].host);
    throw unpack(blobs[rank], origin);
  }
}

void agree(comm::Communicator& communicator, const std::function<void()>& task) { agree(communicator, attempt(task)); }

int exit_code_in_job(comm::Communicator& communicator, const std::function<void()>& part) {
  const std::optional<Error> error = attempt(part);
  if (!error) return 0;
  if (communicator.size() > 1 && error->extent() == Extent::this_rank) {
    communicator.abort(error->what(), error->exit_code());
  } else if (communicator.rank() == 0) {
    log::error(error->what());
  }
  return error->exit_code();
}

}  // namespace dcs3gd::app
