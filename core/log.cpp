#include "core/log.h"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include "core/files.h"
#include "core/format.h"
#include "core/printable.h"

namespace dcs3gd::log {
namespace {

constexpr std::string_view kEraseLine = "\r\x1b[K";

/// Information to standard output, warnings and errors to standard error, the status line kept below both.
class ConsoleSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  void draw_status(std::string_view line) {
    const std::lock_guard lock(mutex_);
    erase_status();
    status_ = line;
    draw();
  }
  /// Whether lines stand in a file too, so that the console may miss some.
  void set_has_file(bool has_file) { has_file_ = has_file; }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    std::FILE* stream = message.level >= spdlog::level::warn ? stderr : stdout;
    if (has_file_ && !(is_read(stdout) && is_read(stream))) {
      ++missed_;
      return;
    }
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    erase_status();
    std::fflush(stdout);
    if (missed_ > 0) {
      std::fputs(
          format("({} lines were not taken in time: the log file has them)\n", std::exchange(missed_, 0)).c_str(),
          stream);
    }
    std::fwrite(line.data(), 1, line.size(), stream);
    std::fflush(stream);
    draw();
  }
  void flush_() override { std::fflush(stdout); }

 private:
  /// Whether the console takes a line now. Who stops reading a pipe, as mpirun does while it ends a job, must not stop
  /// the run.
  bool is_read(std::FILE* stream) const {
    constexpr int kPatience_ms = 200;
    pollfd console{.fd = fileno(stream), .events = POLLOUT, .revents = 0};
    return poll(&console, 1, missed_ > 0 ? 0 : kPatience_ms) != 0;
  }
  void erase_status() {
    if (!status_.empty()) std::fwrite(kEraseLine.data(), 1, kEraseLine.size(), stdout);
  }
  void draw() {
    std::fwrite(status_.data(), 1, status_.size(), stdout);
    std::fflush(stdout);
  }

  std::string status_;
  bool has_file_ = false;
  int missed_ = 0;  ///< lines since the last that was read
};

/// The log's file, there from its first line on: of thousands of ranks most have nothing to say.
class FileSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FileSink(std::string path) : path_(std::move(path)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    if (is_refused_) return;
    if (!file_.is_open()) file_ = FileDescriptor(path_, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
    is_refused_ = !file_.is_open();
    if (is_refused_) fail("cannot be opened, going on without it");
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    if (!write_fully(file_.get(), std::as_bytes(std::span(line.data(), line.size())))) fail("cannot be written");
  }
  void flush_() override {}

 private:
  [[noreturn]] void fail(const char* what) const {
    const std::string reason = errno == ELOOP ? "it is a link, which is not followed" : system_reason();
    throw spdlog::spdlog_ex(format("{}: {}: {}", path_, what, reason));
  }

  std::string path_;
  FileDescriptor file_;
  bool is_refused_ = false;
};

/// A message as it may be shown: what names of files and the like bring along neither moves a terminal's cursor nor
/// begins a line as this log does.
std::string shown(std::string_view message) {
  std::string lines = printable_lines(message);
  for (std::size_t at = lines.find('\n'); at != std::string::npos; at = lines.find('\n', at + 1)) {
    lines.insert(at + 1, "  ");
  }
  return lines;
}

struct Log {
  Log() { use({console}, "%H:%M:%S %v", spdlog::level::info); }

  void use(std::vector<spdlog::sink_ptr> sinks, const std::string& pattern, spdlog::level::level_enum console_level) {
    logger = std::make_shared<spdlog::logger>("dcs3gd", sinks.begin(), sinks.end());
    logger->set_pattern(pattern);
    logger->flush_on(spdlog::level::info);
    console->set_level(console_level);
    // A full disk costs log lines, not the run: one warning, then silence.
    warned_of_lost_lines = false;
    logger->set_error_handler([this](const std::string& reason) {
      if (!warned_of_lost_lines.exchange(true)) std::fprintf(stderr, "warning: log: %s\n", reason.c_str());
    });
  }

  std::shared_ptr<ConsoleSink> console = std::make_shared<ConsoleSink>();
  std::shared_ptr<spdlog::logger> logger;
  std::atomic<bool> warned_of_lost_lines = false;
  bool status_line = false;
};

Log& instance() {
  static Log log;
  return log;
}

}  // namespace

void open(const Options& options) {
  Log& log = instance();
  std::vector<spdlog::sink_ptr> sinks{log.console};
  if (!options.file.empty()) sinks.push_back(std::make_shared<FileSink>(options.file));
  log.console->set_has_file(sinks.size() > 1);
  const std::string rank = options.rank_count > 1 ? format("[rank {}] ", options.rank) : "";
  log.use(std::move(sinks), "%H:%M:%S " + rank + "%v", options.rank == 0 ? spdlog::level::info : spdlog::level::warn);
  log.status_line = options.status_line && options.rank == 0;
}

void close() {
  status("");
  instance().logger->flush();
  open({});
}

void info(std::string_view message) { instance().logger->info("{}", shown(message)); }
void warn(std::string_view message) { instance().logger->warn("warning: {}", shown(message)); }
void error(std::string_view message) { instance().logger->error("error: {}", shown(message)); }

void status(std::string_view line) {
  Log& log = instance();
  if (log.status_line) log.console->draw_status(line);
}

}  // namespace dcs3gd::log
