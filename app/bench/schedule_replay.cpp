#include "app/bench/schedule_replay.h"

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <optional>
#include <queue>
#include <utility>

#include "comm/schedule/chunks.h"
#include "comm/schedule/message_numbers.h"
#include "comm/transfer_window.h"
#include "core/error.h"
#include "core/format.h"

namespace dcs3gd::app {
namespace {

using comm::Receive;
using comm::Schedule;

/// How an array travels by one rank's lists, as comm/scheduled_all_reduce.h does it.
class Messages {
 public:
  Messages(std::size_t floats, const Schedule& schedule, int ranks, const NetworkModel& network)
      : floats_(floats),
        schedule_(schedule),
        ranks_(ranks),
        network_(network),
        segment_floats_(segment_floats(network)) {
    for (const comm::Send& send : schedule.sends) sends_.add_transfer(segments(send.run));
    for (const Receive& receive : schedule.receives) receives_.add_transfer(segments(receive.run));
  }

  std::size_t send_count() const { return sends_.count(); }
  std::size_t receive_count() const { return receives_.count(); }
  const comm::Send& send(std::size_t message) const { return schedule_.sends[sends_.place(message).transfer]; }
  /// Which message of the receiver it is whose receive number `transfer` takes it.
  std::size_t message_there(std::size_t message, const Messages& receiver, std::size_t transfer) const {
    return receiver.receives_.first(transfer) + sends_.place(message).segment;
  }
  std::size_t transfer_of_send(std::size_t message) const { return sends_.place(message).transfer; }

  double bytes_of_send(std::size_t message) const {
    return static_cast<double>(count_of(send(message).run, sends_.place(message).segment)) * network_.bits / 8;
  }
  double link_ms(std::size_t message) const { return bytes_of_send(message) / network_.bytes_per_ms; }
  double thread_ms(std::size_t message) const {
    const auto [transfer, segment] = receives_.place(message);
    const Receive& receive = schedule_.receives[transfer];
    const bool is_touched = receive.action != Receive::Action::store || network_.bits != 32;
    return network_.message_ms +
           (is_touched ? network_.ms_per_float * static_cast<double>(count_of(receive.run, segment)) : 0);
  }
  /// So many receives must be finished before this message may leave, and so many sends before this one is taken.
  std::size_t receives_before_send(std::size_t message) const {
    const auto [transfer, segment] = sends_.place(message);
    const comm::Send& send = schedule_.sends[transfer];
    return comm::messages_needed(schedule_.receives, receives_, send.after_receives, send.run, segment);
  }
  std::size_t sends_before_receive(std::size_t message) const {
    const auto [transfer, segment] = receives_.place(message);
    const Receive& receive = schedule_.receives[transfer];
    return comm::messages_needed(schedule_.sends, sends_, receive.after_sends, receive.run, segment);
  }

 private:
  static std::size_t segment_floats(const NetworkModel& network) {
    const auto floats = static_cast<std::size_t>(static_cast<double>(network.segment_bytes) * 8 / network.bits);
    return std::max(comm::kLineFloats, floats / comm::kLineFloats * comm::kLineFloats);
  }
  comm::Range range(const comm::Run& run) const { return comm::run_range(floats_, ranks_, run.chunk, run.chunks); }
  std::size_t segments(const comm::Run& run) const { return comm::segment_count(range(run), segment_floats_); }
  std::size_t count_of(const comm::Run& run, std::size_t segment) const {
    return comm::segment_range(range(run), segment_floats_, segment).count;
  }

  const std::size_t floats_;
  const Schedule& schedule_;
  const int ranks_;
  const NetworkModel& network_;
  const std::size_t segment_floats_;
  comm::MessageNumbers sends_;
  comm::MessageNumbers receives_;
};

/// All ranks' steps, as events in the order of their times.
class Replay {
 public:
  Replay(const StepPlan& plan, const std::vector<std::size_t>& elements, const comm::AlgorithmInfo& algorithm,
         const NetworkModel& network, int ranks, const PaceOf& pace)
      : plan_(plan), network_(network), pace_(pace), ranks_(static_cast<std::size_t>(ranks)), clocks_(ranks) {
    for (int rank = 0; rank < ranks; ++rank) {
      ranks_[index(rank)].schedule = algorithm.make(comm::Topology(rank, ranks));
    }
    for (Rank& rank : ranks_) {
      for (std::size_t i = 0; i < elements.size(); ++i) {
        rank.messages.emplace_back(elements[i], rank.schedule, ranks, network);
        rank.in_flight.push_back({Flight(rank.messages[i]), Flight(rank.messages[i])});
      }
      rank.started.resize(elements.size());
      rank.finished.resize(elements.size());
    }
    for (std::size_t i = 0; i < plan.urgency.size(); ++i) by_urgency_.push_back(i);
    std::ranges::sort(by_urgency_, {}, [&](std::size_t i) { return plan.urgency[i]; });
    pair_up();
  }

  StepTimes run(std::size_t warm_up, std::size_t steps) {
    steps_ = warm_up + steps;
    warm_up_ = warm_up;
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) begin_step(rank);
    while (!events_.empty()) {
      const Event event = events_.top();
      events_.pop();
      now_ = event.ms;
      handle(event);
    }
    return clocks_.since(warm_, steps);
  }

 private:
  enum class What { moment, sent, came, received };
  struct Event {
    double ms;
    std::size_t number;  ///< of two at the same time the earlier made
    What what;
    std::size_t rank;
    std::size_t average = 0;
    std::size_t turn = 0;  ///< which all-reduce of this average
    std::size_t message = 0;

    bool operator<(const Event& other) const { return ms != other.ms ? ms > other.ms : number > other.number; }
  };
  /// One all-reduce as one rank sees it. The next one of the same average may already come to a rank that is late.
  struct Flight {
    explicit Flight(const Messages& messages) : sends(messages.send_count()), has_come(messages.receive_count()) {}

    bool is_done() const { return sent == sends && received == has_come.size(); }
    void clear() {
      posted = sent = received = 0;
      std::fill(has_come.begin(), has_come.end(), false);
    }

    std::size_t sends;
    std::size_t posted = 0;
    std::size_t sent = 0;
    std::size_t received = 0;
    std::vector<bool> has_come;
  };
  struct Rank {
    Schedule schedule;
    std::vector<Messages> messages = {};            ///< by average
    std::vector<std::size_t> partner_receive = {};  ///< by send: which of the receiver's it is
    std::vector<std::array<Flight, 2>> in_flight = {};
    std::vector<std::size_t> started = {};   ///< by average: how many all-reduces
    std::vector<std::size_t> finished = {};  ///< by average
    struct Message {
      std::size_t average;
      std::size_t number;
    };
    std::deque<Message> posted = {};  ///< that the link has not begun
    double posted_bytes = 0;
    bool is_sending = false;
    bool is_receiving = false;
    double incoming_free_ms = 0;
    std::size_t step = 0;
    std::size_t moment = 0;
    Pace pace = {};
    double place_ms = 0;  ///< within the step's plan
    std::optional<std::size_t> waits_for = {};
  };

  static std::size_t index(int rank) { return static_cast<std::size_t>(rank); }

  /// Between two ranks the n-th send is the n-th receive.
  void pair_up() {
    std::map<std::pair<std::size_t, std::size_t>, std::deque<std::size_t>> receives;
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
      const std::vector<Receive>& list = ranks_[rank].schedule.receives;
      for (std::size_t i = 0; i < list.size(); ++i) receives[{index(list[i].from), rank}].push_back(i);
    }
    for (std::size_t rank = 0; rank < ranks_.size(); ++rank) {
      for (const comm::Send& send : ranks_[rank].schedule.sends) {
        std::deque<std::size_t>& open = receives[{rank, index(send.to)}];
        ranks_[rank].partner_receive.push_back(open.front());
        open.pop_front();
      }
    }
  }

  void add(Event event) {
    event.number = event_count_++;
    events_.push(event);
  }

  void handle(const Event& event) {
    Rank& rank = ranks_[event.rank];
    Flight& flight = rank.in_flight[event.average][event.turn % 2];
    switch (event.what) {
      case What::moment:
        compute_on(event.rank);
        return;
      case What::sent:
        rank.is_sending = false;
        ++flight.sent;
        break;
      case What::came:
        flight.has_come[event.message] = true;
        break;
      case What::received:
        rank.is_receiving = false;
        ++flight.received;
        break;
    }
    if (event.what != What::came && flight.is_done()) finish(event.rank, event.average);
    send_and_receive(event.rank);
  }

  void begin_step(std::size_t number) {
    Rank& rank = ranks_[number];
    if (rank.step == warm_up_) {
      warm_.now_ms[number] = now_;
      warm_.waited_ms[number] = clocks_.waited_ms[number];
    }
    if (rank.step == steps_) {
      clocks_.now_ms[number] = now_;
      return;
    }
    rank.pace = pace_(rank.step, static_cast<int>(number));
    rank.moment = 0;
    rank.place_ms = 0;
    compute_until_next(number);
  }

  void compute_until_next(std::size_t number) {
    Rank& rank = ranks_[number];
    const double at_ms = rank.moment < plan_.moments.size() ? plan_.moments[rank.moment].ms : plan_.compute_ms;
    const double ms = std::exchange(rank.pace.late_ms, 0) + rank.pace.factor * (at_ms - rank.place_ms);
    rank.place_ms = at_ms;
    add({.ms = now_ + ms, .number = 0, .what = What::moment, .rank = number});
  }

  /// The rank's computing has come to its next moment, or has waited for it.
  void compute_on(std::size_t number) {
    Rank& rank = ranks_[number];
    if (rank.moment == plan_.moments.size()) {
      ++rank.step;
      begin_step(number);
      return;
    }
    const Moment& moment = plan_.moments[rank.moment];
    if (moment.is_send) {
      const std::size_t turn = rank.started[moment.average]++;
      if (rank.in_flight[moment.average][turn % 2].is_done()) finish(number, moment.average);  // nothing to send
      send_and_receive(number);
    } else if (rank.finished[moment.average] < rank.started[moment.average]) {
      rank.waits_for = moment.average;
      clocks_.waited_ms[number] -= now_;
      return;
    }
    ++rank.moment;
    compute_until_next(number);
  }

  void finish(std::size_t number, std::size_t average) {
    Rank& rank = ranks_[number];
    rank.in_flight[average][rank.finished[average]++ % 2].clear();
    if (rank.waits_for != average) return;
    rank.waits_for.reset();
    clocks_.waited_ms[number] += now_;
    ++rank.moment;
    compute_until_next(number);
  }

  /// As the progress thread does: what may be sent is handed to the link, which keeps that order; of what is less
  /// urgent than something else in flight one message at a time.
  void send_and_receive(std::size_t number) {
    Rank& rank = ranks_[number];
    bool yields = false;
    for (const std::size_t average : by_urgency_) {
      if (rank.started[average] == rank.finished[average]) continue;
      post(rank, average, yields ? 1 : comm::TransferWindow::kSlots);
      if (!rank.is_receiving) try_receive(number, average);
      yields = true;
    }
    if (!rank.is_sending && !rank.posted.empty()) send(number);
  }

  void post(Rank& rank, std::size_t average, std::size_t window) {
    const Messages& messages = rank.messages[average];
    Flight& flight = rank.in_flight[average][rank.finished[average] % 2];
    while (flight.posted < flight.sends &&
           (flight.posted - flight.sent < window || rank.posted_bytes < network_.buffer_bytes)) {
      if (flight.received < messages.receives_before_send(flight.posted)) return;
      rank.posted_bytes += messages.bytes_of_send(flight.posted);
      rank.posted.push_back({average, flight.posted++});
    }
  }

  void send(std::size_t number) {
    Rank& rank = ranks_[number];
    const auto [average, message] = rank.posted.front();
    rank.posted.pop_front();
    rank.is_sending = true;
    const Messages& messages = rank.messages[average];
    const std::size_t turn = rank.finished[average];
    rank.posted_bytes -= messages.bytes_of_send(message);
    const double link_ms = messages.link_ms(message);
    add({now_ + link_ms, 0, What::sent, number, average, turn, message});
    const std::size_t receiver = index(messages.send(message).to);
    Rank& to = ranks_[receiver];
    to.incoming_free_ms = std::max(to.incoming_free_ms, now_ + network_.latency_ms) + link_ms;
    const std::size_t transfer = rank.partner_receive[messages.transfer_of_send(message)];
    const std::size_t there = messages.message_there(message, to.messages[average], transfer);
    add({to.incoming_free_ms, 0, What::came, receiver, average, turn, there});
  }

  void try_receive(std::size_t number, std::size_t average) {
    Rank& rank = ranks_[number];
    const Messages& messages = rank.messages[average];
    const std::size_t turn = rank.finished[average];
    const Flight& flight = rank.in_flight[average][turn % 2];
    if (flight.received == flight.has_come.size() || !flight.has_come[flight.received]) return;
    if (flight.sent < messages.sends_before_receive(flight.received)) return;
    rank.is_receiving = true;
    add({now_ + messages.thread_ms(flight.received), 0, What::received, number, average, turn, flight.received});
  }

  const StepPlan& plan_;
  const NetworkModel& network_;
  const PaceOf& pace_;
  std::vector<std::size_t> by_urgency_;
  std::vector<Rank> ranks_;
  std::priority_queue<Event> events_;
  std::size_t event_count_ = 0;
  double now_ = 0;
  std::size_t warm_up_ = 0;
  std::size_t steps_ = 0;
  Clocks clocks_;
  Clocks warm_ = clocks_;
};

}  // namespace

LinkTime replay_alone(const comm::AlgorithmInfo& algorithm, int ranks, std::size_t floats,
                      const NetworkModel& network) {
  const Schedule schedule = algorithm.make(comm::Topology(0, ranks));
  // All chunks of one length, so that the n-th that comes is as long as the n-th that leaves.
  const std::size_t lines_of_all = comm::kLineFloats * static_cast<std::size_t>(ranks);
  const std::size_t padded = (floats + lines_of_all - 1) / lines_of_all * lines_of_all;
  const Messages messages(padded, schedule, ranks, network);
  const std::size_t count = messages.send_count();
  bool are_alike = std::ranges::equal(
      schedule.sends, schedule.receives, {}, [](const comm::Send& send) { return send.run.chunks; },
      [](const Receive& receive) { return receive.run.chunks; });
  std::vector<double> sent_ms;
  std::vector<double> came_ms;
  std::vector<double> received_ms;
  double link_ms = 0;
  double thread_ms = 0;
  double incoming_free_ms = 0;
  while (are_alike && received_ms.size() < count) {
    const std::size_t before = sent_ms.size() + received_ms.size();
    if (const std::size_t message = sent_ms.size(); message < count) {
      const std::size_t needed = messages.receives_before_send(message);
      if (received_ms.size() >= needed) {
        double start_ms = sent_ms.empty() ? 0 : sent_ms.back();
        if (needed > 0) start_ms = std::max(start_ms, received_ms[needed - 1]);
        const double ms = messages.link_ms(message);
        link_ms += ms;
        sent_ms.push_back(start_ms + ms);
        incoming_free_ms = std::max(incoming_free_ms, start_ms + network.latency_ms) + ms;
        came_ms.push_back(incoming_free_ms);
      }
    }
    if (const std::size_t message = received_ms.size(); message < came_ms.size()) {
      const std::size_t needed = messages.sends_before_receive(message);
      if (sent_ms.size() >= needed) {
        double start_ms = std::max(came_ms[message], received_ms.empty() ? 0 : received_ms.back());
        if (needed > 0) start_ms = std::max(start_ms, sent_ms[needed - 1]);
        const double ms = messages.thread_ms(message);
        thread_ms += ms;
        received_ms.push_back(start_ms + ms);
      }
    }
    are_alike = sent_ms.size() + received_ms.size() > before;
  }
  if (!are_alike) {
    throw Error(ErrorKind::input,
                format("dcs3gd-bench scale: in {} of {} ranks not all do alike; choose ring or direct, "
                       "or no more --ranks than --replay-ranks",
                       algorithm.name, ranks));
  }
  if (count == 0) return {};
  // The padding of short arrays is waited for, hop by hop, and keeps nobody busy.
  const double share = static_cast<double>(floats) / static_cast<double>(padded);
  const double busy_ms = share * std::max(link_ms, thread_ms);
  return {.busy_ms = busy_ms, .delay_ms = std::max(received_ms.back(), sent_ms.back()) - busy_ms};
}

StepTimes replay_steps(const StepPlan& plan, const std::vector<std::size_t>& elements,
                       const comm::AlgorithmInfo& algorithm, const NetworkModel& network, int ranks, const PaceOf& pace,
                       std::size_t warm_up, std::size_t steps) {
  return Replay(plan, elements, algorithm, network, ranks, pace).run(warm_up, steps);
}

}  // namespace dcs3gd::app
